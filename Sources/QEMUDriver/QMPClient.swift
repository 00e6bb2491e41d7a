import LinuxSystem
import Machines

/// QEMU's monitor protocol over an inherited socket (QEMU's docs/interop/qmp-spec). What comes from QEMU is bounded: it runs beside a guest
/// that may have taken it over.
@Loop
final class QMPClient {
    /// The longest line that QEMU may send.
    static let lineLimit = 1 << 20
    private let socket: SharedDescriptor
    private let onEvent: (String, JSON) -> Void
    private var waiting: [Int64: CheckedContinuation<JSON, any Error>] = [:]
    private var lastID: Int64 = 0
    private var end: (any Error)?
    /// QEMU's version, as it said it before the first answer.
    private(set) var version: JSON = .null

    /// The version of a QEMU that has said it to somebody else.
    func know(version: JSON) { self.version = version }

    /// `onEvent` is called on the loop with each event's name and data.
    init(_ socket: SharedDescriptor, onEvent: @escaping (String, JSON) -> Void) {
        self.socket = socket
        self.onEvent = onEvent
    }

    /// Reads until QEMU closes its end, or breaks the protocol; run it as long as the machine lives.
    func read() async {
        var line: [UInt8] = []
        do {
            while true {
                let bytes = try await readSome(socket.raw)
                if bytes.isEmpty { throw MachineError(.ended, "QEMU closed its control channel") }
                for byte in bytes {
                    if byte == 10 {
                        try take(line)
                        line.removeAll(keepingCapacity: true)
                    } else if line.count < Self.lineLimit {
                        line.append(byte)
                    } else {
                        throw MachineError(.refused, "QEMU sent a control message of more than \(Self.lineLimit) bytes")
                    }
                }
            }
        } catch {
            finish(error)
        }
    }

    private func finish(_ error: any Error) {
        end = error
        let all = waiting
        waiting = [:]
        for continuation in all.values { continuation.resume(throwing: error) }
    }

    private func take(_ line: [UInt8]) throws {
        if line.allSatisfy({ $0 == 13 || $0 == 32 }) { return }
        let message: JSON
        do { message = try JSON(parsing: line) } catch {
            throw MachineError(.refused, "QEMU sent a control message that is not JSON", cause: error)
        }
        if let greeting = message["QMP"] {
            version = greeting["version"] ?? .null
        } else if let name = message["event"]?.text {
            onEvent(name, message["data"] ?? .null)
        } else if let id = message["id"]?.count, let continuation = waiting.removeValue(forKey: id) {
            if let failure = message["error"] {
                let words = failure["desc"]?.text ?? "no reason given"
                continuation.resume(throwing: MachineError(.refused, "QEMU refused: \(words)"))
            } else {
                continuation.resume(returning: message["return"] ?? .null)
            }
        }
    }

    /// Runs a command and returns its answer. QEMU reads a byte at a time, some 50 µs each: what a start waits for is said in few words. Throws what QEMU answered, or `MachineError.ended`.
    @discardableResult
    func execute(
        _ command: String, _ arguments: [String: JSON] = [:], descriptors: [Int32] = []
    ) async throws -> JSON {
        if let end { throw end }
        lastID += 1
        let id = lastID
        var message: [String: JSON] = ["execute": .string(command), "id": .integer(id)]
        if !arguments.isEmpty { message["arguments"] = .object(arguments) }
        // One line is written whole: the socket holds far more than the few commands that are ever under way.
        let bytes = Array((JSON.object(message).encoded + "\n").utf8)
        let sent = Task { @Loop in try await self.send(bytes, descriptors) }
        defer { sent.cancel() }
        let answer = try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { waiting[id] = $0 }
        } onCancel: {
            Task { @Loop in self.waiting.removeValue(forKey: id)?.resume(throwing: CancellationError()) }
        }
        try await sent.value
        return answer
    }

    private func send(_ bytes: [UInt8], _ descriptors: [Int32]) async throws {
        try await socket.send(bytes, descriptors: descriptors)
    }
}
