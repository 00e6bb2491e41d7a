import Testing

@testable import EngineSetup

@Suite struct EngineSetupTests {
    static let runtime = "/usr/local/bin/hull-runtime"

    /// What becomes of a host's files.
    private func host(_ files: [String: String]) -> EngineSetup { EngineSetup(runtime: Self.runtime) { files[$0] } }

    /// Installs into `old`, does so again, and takes it back; what install left.
    private func round(_ engine: ContainerEngine, _ old: String?, back: String?) throws -> String {
        let first = try host([:]).install(engine)
        let installed = try host(old.map { [first.path: $0] } ?? [:]).install(engine)
        let text = try #require(installed.new)
        let again = try host([first.path: text]).install(engine)
        #expect(again.isNothing)
        let gone = try host([first.path: text]).uninstall(engine)
        #expect(gone.new == back)
        #expect(try host(back.map { [first.path: $0] } ?? [:]).uninstall(engine).isNothing)
        return text
    }

    @Test("docker: daemon.json") func docker() throws {
        #expect(
            try round(.docker, nil, back: nil)
                == "{\n    \"runtimes\": {\"hull\": {\"path\": \"/usr/local/bin/hull-runtime\"}}\n}\n")
        let theirs =
            "{\n  \"log-driver\": \"journald\",\n  \"runtimes\": {\n    \"crun\": {\"path\": \"/usr/bin/crun\"}\n  }\n}\n"
        let text = try round(.docker, theirs, back: theirs)
        #expect(
            text.contains(
                "    \"crun\": {\"path\": \"/usr/bin/crun\"},\n    \"hull\": {\"path\": \"/usr/local/bin/hull-runtime\"}\n"))
        // Of another place: it is set right. With arguments of somebody's own: it stays.
        #expect(
            try host(["/etc/docker/daemon.json": "{\"runtimes\": {\"hull\": {\"path\": \"/old\"}}}"]).install(.docker).new
                == "{\"runtimes\": {\"hull\": {\"path\": \"/usr/local/bin/hull-runtime\"}}}")
        let own = "{\"runtimes\": {\"hull\": {\"path\": \"\(Self.runtime)\", \"runtimeArgs\": [\"--debug\"]}}}"
        #expect(try host(["/etc/docker/daemon.json": own]).install(.docker).isNothing)
        #expect(try host(["/etc/docker/daemon.json": ""]).install(.docker).new?.contains("hull-runtime") == true)
    }

    @Test("docker: what cannot be edited stays") func dockerRefuses() {
        for text in ["{\"runtimes\": {", "[]", "{\"runtimes\": []}", "{\"a\": 1, // why\n}"] {
            #expect(throws: EngineSetupError.self) { try host(["/etc/docker/daemon.json": text]).install(.docker) }
        }
        let standard = "{\"default-runtime\": \"hull\", \"runtimes\": {\"hull\": {\"path\": \"/x\"}}}"
        #expect(throws: EngineSetupError.self) { try host(["/etc/docker/daemon.json": standard]).uninstall(.docker) }
    }

    @Test("podman: a file of its own, with the whole list") func podman() throws {
        let text = try round(.podman, nil, back: nil)
        #expect(text.contains("runtime_supports_json = [\"crun\", \"runc\", \"kata\", \"runsc\", \"krun\", \"hull\"]"))
        #expect(
            text.contains("runtime_supports_kvm = [\"kata\", \"kata-runtime\", \"kata-qemu\", \"kata-fc\", \"krun\", \"hull\"]"))
        #expect(text.contains("[engine.runtimes]\nhull = [\"/usr/local/bin/hull-runtime\"]\n"))
        let other = try host(["/etc/containers/containers.conf": "[engine]\nruntime_supports_json = [\n \"youki\",\n]\n"])
            .install(.podman)
        #expect(other.new?.contains("[\"youki\", \"hull\"]") == true)
        #expect(throws: EngineSetupError.self) { try host(["/etc/containers/containers.conf": "[engine"]).install(.podman) }
    }

    static let debian = """
        version = 2

        [plugins]
          [plugins."io.containerd.grpc.v1.cri"]
            [plugins."io.containerd.grpc.v1.cri".cni]
              bin_dir = "/usr/lib/cni"
          [plugins."io.containerd.internal.v1.opt"]
            path = "/var/lib/containerd/opt"

        """

    @Test("containerd: a table in config.toml") func containerd() throws {
        let text = try round(.containerd, Self.debian, back: Self.debian)
        #expect(text.hasPrefix(Self.debian))
        #expect(
            text.contains(
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.hull.options]\nBinaryName = \"\(Self.runtime)\"\n"))
        #expect(try round(.containerd, nil, back: nil).hasPrefix("version = 2\n\n# Written by"))
        let path = "/etc/containerd/config.toml"
        #expect(
            try host([path: "version = 3\n"]).install(.containerd).new?.contains("[plugins.\"io.containerd.cri.v1.runtime\".")
                == true)
        #expect(try host([path: ""]).install(.containerd).new?.contains("[plugins.cri.containerd.runtimes.hull]") == true)
        #expect(
            try host([path: "disabled_plugins = [\"cri\"]\nversion = 2\n"]).install(.containerd).remarks.contains {
                $0.contains("disable")
            })
        // In the middle of a file, of another place: it is replaced, and what follows stays.
        let old = text.replacing(Self.runtime, with: "/old") + "[metrics]\naddress = \"\"\n"
        let new = try #require(try host([path: old]).install(.containerd).new)
        #expect(new.contains(Self.runtime) && !new.contains("/old") && new.contains("\n[metrics]\naddress = \"\"\n"))
        for bad in ["version = 4\n", "[plugins", "version = 2\nplugins = {}\n"] {
            #expect(throws: EngineSetupError.self) { try host([path: bad]).install(.containerd) }
        }
    }

    @Test("kubernetes: a RuntimeClass") func kubernetes() throws {
        #expect(try round(.kubernetes, nil, back: nil).contains("kind: RuntimeClass\nmetadata:\n  name: hull\nhandler: hull\n"))
    }

    @Test("What changes is shown") func differences() {
        var change = EngineChange(path: "", old: "a\nb\nc\n", new: "a\nx\ny\nc\n", summary: "")
        #expect(change.differences == ["- b", "+ x", "+ y"])
        change.old = nil
        change.new = "a\n"
        #expect(change.differences == ["+ a"])
    }
}
