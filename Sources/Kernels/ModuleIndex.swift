/// A kernel's modules and what each needs, from the files that depmod writes beside them. Pure. (modules.dep(5))
struct ModuleIndex: Sendable {
    private var files: [String: String] = [:]  // name → path below the tree
    private var needs: [String: [String]] = [:]  // name → names
    private var builtin: Set<String> = []
    private var first: [String: [String]] = [:]  // soft: name → names to be loaded before it
    private var aliases: [String: String] = [:]

    /// `dependencies` is modules.dep, `builtin` modules.builtin, `soft` modules.softdep, `aliases` modules.alias; the last two may be
    /// empty.
    init(dependencies: String, builtin: String, soft: String = "", aliases: String = "") {
        for line in dependencies.utf8.split(separator: 10) {
            guard let colon = line.firstIndex(of: 58) else { continue }
            let path = String(Substring(line[..<colon]))
            let name = Self.name(path)
            files[name] = path
            needs[name] = line[line.index(after: colon)...].split(separator: 32).map { Self.name(String(Substring($0))) }
        }
        for line in builtin.utf8.split(separator: 10) { self.builtin.insert(Self.name(String(Substring(line)))) }
        for line in soft.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count > 3, words[0] == "softdep", let before = words.firstIndex(of: "pre:") else { continue }
            let wanted = words[(before + 1)...].prefix { $0 != "post:" }.map { Self.name(String($0)) }
            first[Self.name(String(words[1])), default: []] += wanted
        }
        // Only what a soft dependency asks for by an alias without wildcards.
        let asked = Set(first.values.joined()).subtracting(files.keys).subtracting(self.builtin)
        if !asked.isEmpty {
            for line in aliases.split(separator: "\n") {
                let words = line.split(separator: " ")
                guard words.count == 3, words[0] == "alias" else { continue }
                let alias = Self.name(String(words[1]))
                if asked.contains(alias) { self.aliases[alias] = Self.name(String(words[2])) }
            }
        }
    }

    /// `kernel/drivers/block/virtio_blk.ko.xz`, `virtio-blk` → `virtio_blk`.
    static func name(_ path: String) -> String {
        let file = path.split(separator: "/").last ?? ""
        let stem = file.firstRange(of: ".ko").map { file[..<$0.lowerBound] } ?? file[...]
        return String(stem.map { $0 == "-" ? "_" : $0 })
    }

    /// The files that must be loaded, in order, so that all of `wanted` are there. What is built in is left out; the first that is
    /// neither built in nor a file is thrown by name.
    func order(of wanted: [String]) throws(MissingModule) -> [String] {
        var order: [String] = []
        var seen: Set<String> = []
        for name in wanted { try visit(Self.name(name), soft: false, &order, &seen) }
        return order
    }

    private func visit(_ name: String, soft: Bool, _ order: inout [String], _ seen: inout Set<String>) throws(MissingModule) {
        if seen.contains(name) || builtin.contains(name) { return }
        guard let path = files[name] else {
            if let real = aliases[name] { return try visit(real, soft: soft, &order, &seen) }
            if soft { return }
            throw MissingModule(name: name)
        }
        seen.insert(name)
        for before in first[name] ?? [] { try visit(before, soft: true, &order, &seen) }
        for needed in (needs[name] ?? []).reversed() { try visit(needed, soft: false, &order, &seen) }
        order.append(path)
    }
}

/// A module that a kernel has neither built in nor as a file.
struct MissingModule: Error, Hashable {
    var name: String
}
