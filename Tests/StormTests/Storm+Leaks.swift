import Glibc
import LinuxSystem
import Netlink

/// What is left on the host, as the kernel shows it.
extension Storm {
    /// The live processes of a sandbox by role: its monitor by its arguments, what the monitor confined by its cgroup.
    func processes(_ id: String) throws -> [(role: String, pid: Int32)] {
        try listDirectory("/proc").compactMap { name in
            guard let pid = Int32(name), let stat = try? readText("/proc/\(pid)/stat"),  // each may go while it is read
                let close = stat.lastIndex(of: ")"), !stat[close...].hasPrefix(") Z"),
                let words = try? readText("/proc/\(pid)/cmdline"), let cgroups = try? readText("/proc/\(pid)/cgroup")
            else { return nil }
            if words.hasPrefix("hull-monitor"), words.contains(id) { return ("monitor", pid) }
            guard cgroups.contains("hull/\(id)") else { return nil }
            return (words.contains("virtiofsd") ? "virtiofsd" : "qemu", pid)
        }
    }

    /// Within a second, before any verb: neither process nor tap nor mount (a namespace lives by one of them).
    func leftBefore(_ id: String, taps: Bool = false) async throws -> [String] {
        let deadline = ContinuousClock.now + .seconds(1)
        while true {
            var left = try processes(id).map { "process \($0.role) \($0.pid)" }
            left += try readText("/proc/self/mountinfo").split(separator: "\n").filter { $0.contains(folder) }.map {
                "mount \($0)"
            }
            if taps { left += try await links().filter { $0.contains("hull0t") }.map { "tap \($0)" } }
            if left.isEmpty || ContinuousClock.now > deadline { return left }
            try await sleep(for: .milliseconds(20))
        }
    }

    /// After a verb: no cgroup, file, socket, half a container.
    func leftAfter(_ id: String) throws -> [String] {
        var left: [String] = []
        for controller in [""] + (try listDirectory("/sys/fs/cgroup").map { "/\($0)" })
        where exists("/sys/fs/cgroup\(controller)/hull/\(id)") {
            left.append("cgroup \(controller)/hull/\(id)")
        }
        left += try files(runtime).filter { $0.contains(id) }
        for number in try listDirectory("\(runtime)/ids") {
            var owner = [CChar](repeating: 0, count: 65)
            guard readlink("\(runtime)/ids/\(number)", &owner, 64) > 0 else { continue }
            if String(cString: owner) == id { left.append("ids/\(number)") }
        }
        left += try listDirectory("\(data)/containers").filter { $0.hasPrefix(".") && $0.contains(id) }
        return left
    }

    /// What no maker and no remover of templates is at; a whole template has three files, and a disk where it has one.
    func leftOfTemplates() throws -> [String] {
        let folder = "\(data)/cache/templates"
        guard exists(folder) else { return [] }
        return try listDirectory(folder).flatMap { name -> [String] in
            if [".lock", "awake.log", "build.log", "refused", "wanted"].contains(name) { return [] }
            let inside = try listDirectory("\(folder)/\(name)")
            return !name.hasPrefix(".") && inside.filter { $0 != "disk-rw" } == ["manifest.json", "memory", "state"]
                ? [] : ["\(name): \(inside)"]
        }
    }

    /// Whether nobody makes a template, and nobody wants one.
    func templatesAreMade() throws -> Bool {
        let folder = "\(data)/cache/templates"
        let wanted = exists("\(folder)/wanted") ? try listDirectory("\(folder)/wanted") : []
        return wanted.isEmpty && !FileLock.isHeld("\(folder)/.lock")
    }

    /// Waits for the maker of templates that a start leaves behind.
    private func templatesMade() async throws {
        let lock = "\(data)/cache/templates/.lock"
        try await withDeadline(.seconds(300), awaiting: "the maker of templates") {
            while FileLock.isHeld(lock) { try await sleep(for: .milliseconds(50)) }
        }
    }

    /// When nothing runs any more: not even what sandboxes share. A verb that has just ended may have started a maker of templates that had no lock
    /// yet when we looked: then we look again.
    func leftAtLast() async throws -> [String] {
        while true {
            try await templatesMade()
            let left = try await leftNow()
            if left.isEmpty || !FileLock.isHeld("\(data)/cache/templates/.lock") { return left }
        }
    }

    private func leftNow() async throws -> [String] {
        _ = try await containers()
        let known = ["ids", "ids/lock", "network", "network/lock", "network/endpoints"].map { "\(runtime)/\($0)" }
        var left = try files(runtime).filter { !known.contains($0) && !$0.hasPrefix("\(runtime)/awake") }
        left += try keepers().filter { !$0.isHeld }.map { "\($0.name) of a keeper that is gone" }
        left += try forsakenMachines()
        left += try listDirectory("\(data)/containers").filter { $0.hasPrefix(".") }
        left += try await links().filter { $0.contains("hull") }
        let rules = try await inside("/usr/sbin/nft", "list", "tables")
        if !rules.isEmpty { left.append(rules) }
        left += try leftOfTemplates()
        return left
    }

    /// The folders of keepers of templates, and whether one holds it.
    func keepers() throws -> [(name: String, isHeld: Bool)] {
        let folder = "\(runtime)/awake"
        guard exists(folder) else { return [] }
        return try listDirectory(folder).filter { $0.hasPrefix(".") && $0 != ".lock" }.map {
            ($0, FileLock.isHeld("\(folder)/\($0)/lock"))
        }
    }

    /// VMMs that stand by, and whose keeper does not.
    private func forsakenMachines() throws -> [String] {
        try listDirectory("/proc").compactMap { name in
            guard Int32(name) != nil, let words = try? readText("/proc/\(name)/cmdline"),  // each may go while it is read
                words.contains("name\0hull-awake-"), let stat = try? readText("/proc/\(name)/stat"),
                let parent = stat.split(separator: ")").last?.split(separator: " ").dropFirst().first,
                (try? readText("/proc/\(parent)/cmdline"))?.hasPrefix("hull-template-keeper") != true
            else { return nil }
            return "process \(name): \(words)"
        }
    }

    private func files(_ folder: String) throws -> [String] {
        var all: [String] = []
        for name in try listDirectory(folder) {
            let path = "\(folder)/\(name)"
            all.append(path)
            var status = stat()
            if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { all += try files(path) }
        }
        return all
    }

    private func links() async throws -> [String] {
        try await inside("/sbin/ip", "-o", "link").split(separator: "\n").map(String.init)
    }

    private func inside(_ program: String, _ arguments: String...) async throws -> String {
        var how = Spawn(program, arguments)
        how.networkNamespace = network.descriptor
        return String(decoding: try await how.run().standardOutput, as: UTF8.self)
    }
}
