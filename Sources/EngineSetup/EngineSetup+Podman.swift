extension EngineSetup {
    static let podmanFile = "/etc/containers/containers.conf.d/90-hull.conf"
    /// Lists of runtimes' names, with what Podman 4 has in them; a list of ours replaces it (containers.conf(5)).
    private static let lists = [
        (
            name: "runtime_supports_json", defaults: ["crun", "runc", "kata", "runsc", "krun"],
            why: "with it Podman gets errors in words of the runtime's"
        ),
        (
            name: "runtime_supports_kvm", defaults: ["kata", "kata-runtime", "kata-qemu", "kata-fc", "krun"],
            why: "under SELinux it gets the label of a VMM"
        ),
    ]

    /// A file of our own in `containers.conf.d`, which root's and users' Podman read after the others.
    func podman(installs: Bool) throws -> EngineChange {
        let path = Self.podmanFile
        let old = try read(path)
        var change = EngineChange(
            path: path, old: old, new: nil,
            summary: installs ? "Podman gets the runtime \(Self.name), \(runtime)" : "Podman loses the runtime \(Self.name)")
        guard installs else { return change }
        var settings = ""
        for list in Self.lists {
            var names = list.defaults
            for place in ["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"] {
                guard let text = try read(place) else { continue }
                do {
                    if let written = try TOMLText(text).value(["engine", list.name]) {
                        names = TOMLText.strings(of: written) ?? names
                    }
                } catch let error as TextError {
                    throw EngineSetupError("\(place) cannot be read, so Podman cannot either: \(error); mend it and try again")
                }
            }
            if !names.contains(Self.name) { names.append(Self.name) }
            settings += "# The whole list: \(list.why).\n\(list.name) = [\(names.map(TOMLText.string).joined(separator: ", "))]\n"
        }
        change.new = """
            \(TOMLText.remark)
            [engine]
            \(settings)
            [engine.runtimes]
            \(Self.name) = [\(TOMLText.string(runtime))]

            """
        change.remarks.append("Podman reads it at its next command; nothing has to be reloaded (but a running podman.service).")
        change.remarks.append("Then: podman --runtime \(Self.name) run --rm IMAGE COMMAND")
        return change
    }
}
