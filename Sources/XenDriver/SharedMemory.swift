import AgentProtocol
import CLinux
import Glibc
import LinuxSystem
import MachineProcesses
import Machines

/// What a guest says of the memory that it shares: `REFERENCE CHANNEL`. Pure.
struct MemoryOffer: Hashable, Sendable {
    var reference: UInt32
    var channel: UInt32

    init?(_ text: String) {
        let words = text.split(separator: " ")
        guard words.count == 2, let reference = UInt32(words[0]), let channel = UInt32(words[1]) else { return nil }
        self.reference = reference
        self.channel = channel
    }
}

/// The host's end of the memory that a guest shares, carried to a socket and back.
@Loop
final class SharedMemory {
    private static let ringBytes = SharedStream.ringPages * SharedStream.page
    private let events: SharedDescriptor
    private let device: SharedDescriptor
    private let channel: UInt32
    private var stream: SharedStream
    private let head: UnsafeMutableRawPointer
    private let rings: UnsafeMutableRawPointer
    private var isMapped = true
    private let changed = Gate()
    /// Where what comes is copied to first: a look at nothing costs nothing.
    private var room = [UInt8](repeating: 0, count: SharedStream.size)

    /// Maps what the domain offers. Throws where it does not hold what it must.
    init(of domain: UInt32, _ offer: MemoryOffer) throws {
        device = SharedDescriptor(try openFile("/dev/xen/gntdev", O_RDWR))
        events = SharedDescriptor(try openFile("/dev/xen/evtchn", O_RDWR | O_NONBLOCK))
        head = try Self.map(device, domain, [offer.reference])
        // Copied once: the guest may change them, and what counts is what was mapped.
        let references = (0..<SharedStream.ringPages).map { [head] in
            head.load(fromByteOffset: SharedStream.referencesOffset + 4 * $0, as: UInt32.self)
        }
        do { rings = try Self.map(device, domain, references) } catch {
            munmap(head, SharedStream.page)
            throw error
        }
        do {
            stream = try SharedStream(joining: head, rings: rings)
            let bound = hull_xen_bind(events.raw, domain, offer.channel)
            guard bound >= 0 else { throw SystemError("bind to the guest's event channel", code: -bound) }
            channel = UInt32(bound)
        } catch {
            munmap(head, SharedStream.page)
            munmap(rings, Self.ringBytes)
            throw error
        }
    }

    private static func map(_ device: SharedDescriptor, _ domain: UInt32, _ references: [UInt32]) throws
        -> UnsafeMutableRawPointer
    {
        var mapped: UnsafeMutableRawPointer?
        let failure = hull_xen_map(device.raw, domain, references, references.count, &mapped)
        guard failure == 0, let mapped else { throw SystemError("map the memory that the guest shares", code: -failure) }
        return mapped
    }

    /// Gives the guest's pages back, without which its domain cannot go. Not to be used any more.
    func unmap() {
        guard isMapped else { return }
        isMapped = false
        munmap(head, SharedStream.page)
        munmap(rings, Self.ringBytes)
        changed.open()
    }

    /// Carries bytes between the memory and `socket`, which must not block, until the task is cancelled or the socket's other end is closed. Throws
    /// when the guest breaks the memory's rules.
    func carry(_ socket: SharedDescriptor) async throws {
        try await serve(
            { while true { try await writeAll(socket.raw, try await self.some()) } },
            {
                while true {
                    let bytes = try await readSome(socket.raw)
                    if bytes.isEmpty { return }
                    try await self.give(bytes)
                }
            })
    }

    /// Takes the guest's events while `bodies` run beside each other, until one of them ends, or throws, or the task is cancelled: the others are
    /// cancelled then.
    func serve(_ bodies: (@Loop () async throws -> Void)...) async throws {
        let (ends, end) = AsyncStream.makeStream(of: Result<Void, any Error>.self)
        func start(_ body: @escaping @Loop () async throws -> Void) -> Task<Void, Never> {
            Task { @Loop in
                do {
                    try await body()
                    end.yield(.success(()))
                } catch { end.yield(.failure(error)) }
            }
        }
        let tasks = [start(listen)] + bodies.map(start)
        let outcome = await withTaskCancellationHandler {
            for await outcome in ends { return outcome }
            return .success(())
        } onCancel: {
            for task in tasks { task.cancel() }
        }
        for task in tasks {
            task.cancel()
            await task.value
        }
        try outcome.get()
    }

    /// Takes the guest's events.
    private func listen() async throws {
        while true {
            try await readable(events.raw)
            var port: UInt32 = 0
            // One at a time: a guest that never stops telling holds nobody up.
            if read(events.raw, &port, 4) == 4 { _ = write(events.raw, &port, 4) }
            changed.open()
        }
    }

    /// What the guest wrote, as soon as it wrote something.
    private func some() async throws -> [UInt8] {
        while true {
            let bytes = try take(atMost: SharedStream.size) ?? []
            if !bytes.isEmpty { return bytes }
            try await more()
        }
    }

    private func tell() {
        // A guest that is gone needs not be told.
        if stream.takeNotice() { _ = hull_xen_notify(events.raw, channel) }
    }
}

extension SharedMemory: FileStream {
    func take(atMost count: Int) throws -> [UInt8]? {
        guard isMapped else { throw CancellationError() }
        defer { tell() }
        let got = try room.withUnsafeMutableBytes {
            try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: $0.prefix(count)))
        }
        return Array(room[..<got])
    }

    func more() async throws { try await changed.wait() }

    func give(_ bytes: [UInt8]) async throws {
        var done = 0
        while done < bytes.count {
            guard isMapped else { throw CancellationError() }
            let count = try bytes.withUnsafeBytes { try stream.write(UnsafeRawBufferPointer(rebasing: $0[done...])) }
            tell()
            done += count
            if count == 0 { try await changed.wait() }
        }
    }
}
