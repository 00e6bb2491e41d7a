import AgentProtocol
import CLinux
import Glibc
import LinuxSystem
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
        // Whichever ends first, for whatever reason, the others are of no use.
        let (ends, end) = AsyncStream.makeStream(of: Result<Void, any Error>.self)
        func start(_ body: @escaping @Loop () async throws -> Void) -> Task<Void, Never> {
            Task { @Loop in
                do {
                    try await body()
                    end.yield(.success(()))
                } catch { end.yield(.failure(error)) }
            }
        }
        let tasks = [start(listen), start { try await self.carryOut(socket) }, start { try await self.carryIn(socket) }]
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
            while read(events.raw, &port, 4) == 4 { _ = write(events.raw, &port, 4) }
            changed.open()
        }
    }

    /// From the guest to the socket.
    private func carryOut(_ socket: SharedDescriptor) async throws {
        var buffer = [UInt8](repeating: 0, count: SharedStream.size)
        while isMapped {
            let count = try buffer.withUnsafeMutableBytes { try stream.read(into: $0) }
            tell()
            if count > 0 {
                try await writeAll(socket.raw, count == buffer.count ? buffer : Array(buffer[..<count]))
            } else {
                try await changed.wait()
            }
        }
    }

    /// From the socket to the guest.
    private func carryIn(_ socket: SharedDescriptor) async throws {
        while isMapped {
            let bytes = try await readSome(socket.raw)
            if bytes.isEmpty { return }
            var done = 0
            while done < bytes.count, isMapped {
                let count = try bytes.withUnsafeBytes { try stream.write(UnsafeRawBufferPointer(rebasing: $0[done...])) }
                tell()
                done += count
                if count == 0 { try await changed.wait() }
            }
        }
    }

    private func tell() {
        // A guest that is gone needs not be told.
        if stream.takeNotice() { _ = hull_xen_notify(events.raw, channel) }
    }
}
