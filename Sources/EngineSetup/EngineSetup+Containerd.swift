extension EngineSetup {
    static let containerdFile = "/etc/containerd/config.toml"

    /// A runtime of containerd's CRI plugin in config.toml (containerd's docs/cri/config.md). It is in the file itself and not in one that
    /// the file imports: containerd replaces a plugin's whole configuration by an imported one.
    func containerd(installs: Bool) throws -> EngineChange {
        let path = Self.containerdFile
        let old = try read(path)
        var remarks: [String] = []
        let new: String?
        do {
            var document = try TOMLText(old ?? "version = 2\n")
            let plugin = try Self.plugin(document)
            let table = ["plugins", plugin, "containerd", "runtimes", Self.name]
            if installs {
                if document.isValue(table) {
                    throw TextError("plugins.\(plugin) is written as a value, to which no table can be added")
                }
                let isThere = Self.isThere(document, table, runtime)
                if !isThere {
                    try document.removeTables(table)
                    try document.append(Self.lines(table, runtime))
                }
                if let disabled = document.value(["disabled_plugins"]).flatMap(TOMLText.strings(of:)),
                    disabled.contains(where: { $0 == "cri" || $0 == plugin })
                {
                    remarks.append("The file disables the CRI plugin (disabled_plugins): Kubernetes needs it.")
                }
                new = isThere ? old : document.text
            } else if !document.hasTable(table) {
                new = old
            } else {
                let standard = document.value(["plugins", plugin, "containerd", "default_runtime_name"])
                if standard == TOMLText.string(Self.name) || standard == "'\(Self.name)'" {
                    throw EngineSetupError(
                        "\(path) makes \(Self.name) the default runtime: take default_runtime_name out of it or change it first")
                }
                try document.removeTables(table)
                while document.lines.last?.isBlank == true { try document.dropLastLine() }
                new = document.text == "version = 2\n" ? nil : document.text
            }
        } catch let error as TextError {
            throw EngineSetupError(path, error)
        }
        var change = EngineChange(
            path: path, old: old, new: new,
            summary: installs
                ? "containerd's CRI gets the runtime \(Self.name), \(runtime)" : "containerd's CRI loses the runtime \(Self.name)"
        )
        if !change.isNothing { change.remarks.append("Restart it, its containers go on: systemctl restart containerd") }
        change.remarks += remarks
        if installs {
            change.remarks.append("Pods ask for it by a RuntimeClass whose handler is \(Self.name): hull install kubernetes")
            change.remarks.append("ctr needs no configuration: ctr run --runc-binary \(runtime) IMAGE ID COMMAND")
        }
        return change
    }

    /// The CRI plugin's name in a file of that version.
    private static func plugin(_ document: TOMLText) throws -> String {
        switch document.value(["version"]) {
        case nil, "1": return "cri"
        case "2": return "io.containerd.grpc.v1.cri"
        case "3": return "io.containerd.cri.v1.runtime"
        case let other?: throw TextError("its version is \(other), and Hull knows 1, 2 and 3")
        }
    }

    private static func lines(_ table: [String], _ runtime: String) -> [String] {
        let name = table.map(TOMLText.quoted).joined(separator: ".")
        return [
            TOMLText.remark,
            "[\(name)]",
            "runtime_type = \"io.containerd.runc.v2\"",
            "pod_annotations = [\"run.hull.*\"]",
            "container_annotations = [\"run.hull.*\"]",
            "[\(name).options]",
            "BinaryName = \(TOMLText.string(runtime))",
        ]
    }

    /// Whether the runtime stands there already, be it with more of somebody's own.
    private static func isThere(_ document: TOMLText, _ table: [String], _ runtime: String) -> Bool {
        document.value(table + ["options", "BinaryName"]) == TOMLText.string(runtime)
            && document.value(table + ["runtime_type"]) == "\"io.containerd.runc.v2\""
    }
}

extension TOMLText {
    mutating func dropLastLine() throws { self = try TOMLText(lines.dropLast().joined(separator: "\n")) }
}
