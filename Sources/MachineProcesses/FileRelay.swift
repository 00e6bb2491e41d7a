import CLinux
import Glibc
package import LinuxSystem
import Machines

/// Carries a guest's requests for files to a share server, and its answers back, where the two share no memory: the guest's come over a byte stream,
/// one behind the other; to the server we are what a VMM is to it (vhost-user), with a queue in a memory of our own.
@Loop
package final class FileRelay {
    private let memory: UnsafeMutableRawPointer
    private var queue: FileQueue
    /// What tells the server of requests, and us of answers.
    private let kick: SharedDescriptor
    private let call: SharedDescriptor
    /// The server ends when it closes.
    private let connection: SharedDescriptor
    private let taken = Gate()
    /// Answers of our own, for the one who writes.
    private var own: [[UInt8]] = []

    /// Settles everything with the server that listens at the other end of `connection`.
    package init(_ connection: SharedDescriptor) async throws {
        self.connection = connection
        kick = SharedDescriptor(owning: try checked("make an event") { eventfd(0, O_CLOEXEC | O_NONBLOCK) })
        call = SharedDescriptor(owning: try checked("make an event") { eventfd(0, O_CLOEXEC | O_NONBLOCK) })
        let file = SharedDescriptor(
            owning: try checked("make a memory file") { hull_memfd_create("share", 3 /* MFD_CLOEXEC | MFD_ALLOW_SEALING */) })
        try checked("set the length of", "a memory file") { ftruncate(file.raw, FileQueue.bytes) }
        // F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW: else the server could make our next look at it the last.
        try checked("seal", "a memory file") { fcntl(file.raw, 1033, 7) }
        guard let mapped = mmap(nil, FileQueue.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0), mapped != MAP_FAILED
        else {
            throw SystemError("map", "a memory file")
        }
        memory = mapped
        queue = FileQueue(mapped, at: ShareServerLink.base)
        let link = ShareServerLink(connection)
        try await withDeadline(.seconds(120), awaiting: "the share server's answer") { [kick, call] in
            try await link.open(memory: file, bytes: FileQueue.bytes, kick: kick, call: call)
        }
    }

    isolated deinit { munmap(memory, FileQueue.bytes) }

    /// Carries until the other end of `stream`, which must not block, is closed, or the task is cancelled. Throws where either side breaks the rules.
    package func carry(_ stream: SharedDescriptor) async throws {
        let answers = Task { @Loop in
            do { try await self.carryAnswers(stream) } catch is CancellationError {
            } catch let error as SystemError where error.code == EPIPE {
                // Who hung up wants no answers, and asks no more.
            } catch {
                // Whoever reads requests finds out by that, and why.
                self.failure = error
                shutdown(stream.raw, Int32(SHUT_RDWR))
            }
        }
        let outcome: Result<Void, any Error>
        do { outcome = .success(try await carryRequests(stream)) } catch { outcome = .failure(error) }
        answers.cancel()
        await answers.value
        if let failure { throw failure }
        try outcome.get()
    }
    private var failure: (any Error)?

    private func carryRequests(_ stream: SharedDescriptor) async throws {
        var pending: [UInt8] = []
        while true {
            let bytes = try await readSome(stream.raw, capacity: FileMessage.limit)
            if bytes.isEmpty { return }
            pending += bytes
            var start = 0
            while let length = try FileMessage.requestLength(pending[start...]), pending.count - start >= length {
                let request = pending[start..<start + length]
                start += length
                if let answer = FileMessage.ownAnswer(request) {
                    while own.count >= FileQueue.slots { try await taken.wait() }
                    own.append(answer)
                    signal(call)
                    continue
                }
                while !queue.hasRoom { try await taken.wait() }
                queue.give(request)
                signal(kick)
            }
            pending.removeFirst(start)
        }
    }

    private func carryAnswers(_ stream: SharedDescriptor) async throws {
        var count: UInt64 = 0
        while true {
            try await readable(call.raw)
            // Before the look, so that what comes after it is told again.
            _ = read(call.raw, &count, 8)
            while let answer = try queue.take() {
                taken.open()
                if !answer.isEmpty { try await writeAll(stream.raw, answer) }
            }
            while let answer = own.popLast() {
                taken.open()
                try await writeAll(stream.raw, answer)
            }
        }
    }

    private func signal(_ event: SharedDescriptor) {
        var one: UInt64 = 1
        // A counter that is full is an event that was not looked at yet.
        _ = write(event.raw, &one, 8)
    }
}
