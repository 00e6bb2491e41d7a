import Glibc
import LinuxSystem
import Machines
import StubdomainProtocol

/// The domain in which an HVM domain's QEMU runs, and xl's processes on the host that serve it: a QEMU that carries its consoles, and the proxy
/// of its control connection.
@Loop
struct DeviceModel: Sendable {
    private let id: UInt32
    private let domain: String
    private let processes: [ProcessIdentity]

    /// Takes it over from xl, which has just made it, and waits until it serves its domain. `name` is the served domain's.
    static func adopt(of target: UInt32, _ name: String, _ store: Store) async throws -> DeviceModel {
        let place = "/local/domain/\(target)/image/device-model-domid"
        guard let id = try await store.read(place).flatMap({ UInt32($0) }) else {
            throw MachineError(.startFailed, "xl made no domain for the device model of \(name)")
        }
        var processes: [ProcessIdentity] = []
        for pid in try await forget(processesOf: id, store) {
            if let process = ProcessIdentity(pid: pid) { processes.append(process) }
        }
        let model = DeviceModel(id: id, domain: name, processes: processes)
        let word = try await store.value(
            at: "/local/domain/\(id)/\(Stubdomain.folder(of: "\(target)"))/\(Stubdomain.readiness)",
            awaiting: "the device model's domain (\(model.log) may say why)", within: .seconds(120))
        guard word == Stubdomain.ready else { throw MachineError(.startFailed, "the device model did not start: \(word)") }
        return model
    }

    /// Takes the numbers of xl's processes out of the store. They are of the namespace of processes in which xl ran, and an `xl destroy` in another one
    /// would end whoever has such a number there (libxl__kill_xs_path of libxl_aoutils.c).
    @discardableResult
    static func forget(processesOf id: UInt32, _ store: Store) async throws -> [Int32] {
        var all: [Int32] = []
        for name in ["device-model-pid", "qmp-proxy-pid"] {
            let path = "/local/domain/\(id)/image/\(name)"
            if let pid = try await store.read(path).flatMap({ Int32($0) }) { all.append(pid) }
            try await store.remove(path)
        }
        return all
    }

    /// What the stubdomain says on its console.
    private var log: String { Self.logs(of: domain)[0] }

    /// What is written for the device model of the domain called `name`: the stubdomain's console, and the words of the processes on the host.
    nonisolated private static func logs(of name: String) -> [String] {
        ["qemu-dm-\(name)", "qemu-dm-\(name)-dm", "qmp-proxy-\(name)-dm"].map { "/var/log/xen/\($0).log" }
    }

    /// Takes them away; most domains have none.
    nonisolated static func removeLogs(of name: String) { for log in logs(of: name) { unlink(log) } }

    /// How it ended, if it is not among these any more: with its QEMU, or because somebody took it away.
    func end(among domains: [String: DomainState]) -> ExitStatus? {
        guard let state = domains.values.first(where: { $0.id == id }), !state.isDying else { return .signal(SIGKILL) }
        return state.end == nil ? nil : .code(1)
    }

    /// Why the machine cannot go on when it has ended.
    var complaint: String {
        // What it said is a help, no more.
        let said = ((try? readText(log)) ?? "").split(separator: "\n").suffix(5).joined(separator: "; ")
        return "the domain of the device model ended: \(said.isEmpty ? "it said nothing" : said)\n"
    }

    /// Ends what is on the host of it, so that nobody holds its memory.
    func end() {
        for process in processes { process.signal(SIGKILL) }
        Self.removeLogs(of: domain)
    }
}
