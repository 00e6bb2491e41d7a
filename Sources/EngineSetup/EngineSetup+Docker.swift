extension EngineSetup {
    static let dockerFile = "/etc/docker/daemon.json"

    /// `runtimes.hull` in daemon.json (dockerd(8), "Daemon configuration file").
    func docker(installs: Bool) throws -> EngineChange {
        let path = Self.dockerFile
        let old = try read(path)
        var document: JSONText
        do {
            // An empty file is what no file is.
            document = try JSONText(old.map { $0.isBlankText ? "{}\n" : $0 } ?? "{}\n")
            guard document.root.members != nil else { throw TextError("it holds no object") }
            if !installs, case .string(Self.name)? = document.find(["default-runtime"])?.kind {
                throw EngineSetupError(
                    "\(path) makes \(Self.name) the default runtime, so dockerd would not start without it: take \"default-runtime\" out of it first"
                )
            }
            if installs {
                if case .string(runtime)? = document.find(["runtimes", Self.name, "path"])?.kind {
                    // It stands there already.
                } else {
                    try document.set(["runtimes", Self.name], to: "{\"path\": \(JSONText.quoted(runtime))}")
                }
            } else {
                try document.remove(["runtimes", Self.name])
                if document.find(["runtimes"])?.members?.isEmpty == true { try document.remove(["runtimes"]) }
            }
        } catch let error as TextError {
            throw EngineSetupError(path, error)
        }
        // Without anything in it it says nothing.
        let isEmpty = document.root.members?.isEmpty == true
        let new: String? = installs ? document.text : old == nil || isEmpty ? nil : document.text
        var change = EngineChange(
            path: path, old: old, new: new,
            summary: installs ? "dockerd gets the runtime \(Self.name), \(runtime)" : "dockerd loses the runtime \(Self.name)")
        if !change.isNothing {
            // At a reload dockerd keeps the runtimes that it knows where the file names none any more.
            let forgets = installs || document.find(["runtimes"]) != nil
            change.remarks.append(
                forgets
                    ? "Reload it: systemctl reload docker (or send dockerd a SIGHUP)." : "Restart it: systemctl restart docker")
        }
        if installs { change.remarks.append("Then: docker run --rm --runtime=\(Self.name) IMAGE COMMAND") }
        return change
    }
}

extension String {
    var isBlankText: Bool { allSatisfy(\.isWhitespace) }
}
