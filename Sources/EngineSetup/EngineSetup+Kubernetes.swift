extension EngineSetup {
    static let kubernetesFile = "/etc/hull/runtimeclass.yaml"

    /// A RuntimeClass (node.k8s.io/v1), with what a machine takes beside the pod's own requests.
    func kubernetes(installs: Bool) throws -> EngineChange {
        let path = Self.kubernetesFile
        let manifest = """
            # kubectl apply -f \(path); a pod asks for it with `runtimeClassName: \(Self.name)`.
            apiVersion: node.k8s.io/v1
            kind: RuntimeClass
            metadata:
              name: \(Self.name)
            handler: \(Self.name)
            overhead:
              podFixed:
                # The guest's kernel, and on the host QEMU, the share's server and the monitor.
                memory: 352Mi
                cpu: 250m

            """
        var change = EngineChange(
            path: path, old: try read(path), new: installs ? manifest : nil,
            summary: installs
                ? "a manifest of the RuntimeClass \(Self.name)" : "the manifest of the RuntimeClass \(Self.name) goes")
        if installs {
            change.remarks = [
                "Give it to the cluster, once: kubectl apply -f \(path)",
                "On each node that is to run such pods: hull install containerd",
                "A pod asks for it with `runtimeClassName: \(Self.name)`.",
            ]
        } else if !change.isNothing {
            change.remarks = ["Take it from the cluster too: kubectl delete runtimeclass \(Self.name)"]
        }
        return change
    }
}
