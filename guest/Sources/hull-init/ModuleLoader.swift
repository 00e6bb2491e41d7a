import CGuest

/// The program as `modprobe`: the kernel runs it with `-q -- NAME` to load a module on demand.
enum ModuleLoader {
    static func run(_ arguments: [String]) -> Int32 {
        guard let name = arguments.last(where: { $0.utf8.first != 45 }) else { return 1 }
        var tree = ModuleTree("/lib/modules/" + TextFile.readLine("/proc/sys/kernel/osrelease"))
        return tree.load(name) ? 0 : 1
    }
}

/// The kernel's module tree, as depmod wrote it down.
struct ModuleTree {
    private let folder: String
    private let dependencies: [UInt8]
    private var loading: [[UInt8]] = []

    init(_ folder: String) {
        self.folder = folder
        dependencies = TextFile.read(folder + "/modules.dep", limit: 16 << 20)
    }

    /// Loads a module by name or alias with all that it needs; whether any is there now.
    mutating func load(_ name: String) -> Bool {
        let wanted = Self.normal(Array(name.utf8))
        if loadModule(wanted) { return true }
        var any = false
        var matches: [[UInt8]] = []
        Self.lines(TextFile.read(folder + "/modules.alias", limit: 16 << 20)) { line in
            // alias PATTERN MODULE
            guard line.starts(with: "alias ".utf8) else { return }
            let words = Scan.words(line)
            guard words.count == 3 else { return }
            if Self.matches(words[1][...], wanted[...]) { matches.append(words[2]) }
        }
        for match in matches where loadModule(Self.normal(match)) { any = true }
        if any { return true }
        var isBuiltIn = false
        Self.lines(TextFile.read(folder + "/modules.builtin", limit: 4 << 20)) { line in
            if Self.name(ofPath: Array(line)) == wanted { isBuiltIn = true }
        }
        return isBuiltIn
    }

    private mutating func loadModule(_ name: [UInt8]) -> Bool {
        guard !loading.contains(name), loading.count < 64 else { return true }
        var paths: [[UInt8]] = []
        Self.lines(dependencies) { line in
            guard paths.isEmpty, let colon = line.firstIndex(of: 58) else { return }
            guard Self.name(ofPath: Array(line[line.startIndex..<colon])) == name else { return }
            // The module, then what it needs, the most basic last.
            paths = [Array(line[line.startIndex..<colon])] + Scan.words(line[(colon + 1)...])
        }
        guard !paths.isEmpty else { return false }
        loading.append(name)
        for soft in softDependencies(name) { _ = loadModule(soft) }
        var good = true
        for path in paths.reversed() {
            let file = guest_open(folder + "/" + Scan.text(path), O_RDONLY, 0)
            guard file >= 0 else { return false }
            let done = guest_init_module(file, path.suffix(3).elementsEqual(".ko".utf8) ? 0 : 1)
            close(file)
            good = done >= 0 || done == -EEXIST
        }
        return good
    }

    private func softDependencies(_ name: [UInt8]) -> [[UInt8]] {
        var found: [[UInt8]] = []
        Self.lines(TextFile.read(folder + "/modules.softdep")) { line in
            // softdep MODULE pre: A B post: C
            let words = Scan.words(line)
            guard words.count > 2, words[0].elementsEqual("softdep".utf8), Self.normal(words[1]) == name else { return }
            var isBefore = false
            for word in words.dropFirst(2) {
                if word.elementsEqual("pre:".utf8) {
                    isBefore = true
                } else if word.elementsEqual("post:".utf8) {
                    isBefore = false
                } else if isBefore {
                    found.append(Self.normal(word))
                }
            }
        }
        return found
    }

    private static func lines(_ bytes: [UInt8], _ body: (ArraySlice<UInt8>) -> Void) {
        var start = 0
        for index in bytes.indices where bytes[index] == 10 {
            body(bytes[start..<index])
            start = index + 1
        }
        if start < bytes.count { body(bytes[start...]) }
    }

    /// `kernel/fs/foo-bar.ko.xz` is `foo_bar`.
    private static func name(ofPath path: [UInt8]) -> [UInt8] {
        let file = path.lastIndex(of: 47).map { path[($0 + 1)...] } ?? path[...]
        let end = file.firstIndex(of: 46) ?? file.endIndex
        return normal(Array(file[file.startIndex..<end]))
    }

    /// glob(7), in a pattern as depmod writes them (`usb:v0BDAp81[0-9]*`); `-` in it stands for the `_` that `name` has.
    private static func matches(_ pattern: ArraySlice<UInt8>, _ name: ArraySlice<UInt8>) -> Bool {
        var pattern = pattern
        var name = name
        while let next = pattern.popFirst() {
            if next == 42 { return (name.startIndex...name.endIndex).contains { matches(pattern, name[$0...]) } }
            guard let byte = name.popFirst() else { return false }
            switch next {
            case 63: continue
            case 91:
                guard let end = pattern.firstIndex(of: 93), has(pattern[..<end], byte) else { return false }
                pattern = pattern[(end + 1)...]
            default: if byte != (next == 45 ? 95 : next) { return false }
            }
        }
        return name.isEmpty
    }

    /// Whether a byte is in `0-9A`.
    private static func has(_ set: ArraySlice<UInt8>, _ byte: UInt8) -> Bool {
        var index = set.startIndex
        while index < set.endIndex {
            let isRange = index + 2 < set.endIndex && set[index + 1] == 45
            let last = isRange ? set[index + 2] : set[index]
            if set[index] <= byte, byte <= last { return true }
            index += isRange ? 3 : 1
        }
        return false
    }

    private static func normal(_ name: [UInt8]) -> [UInt8] { name.map { $0 == 45 ? 95 : $0 } }
}
