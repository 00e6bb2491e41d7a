import CLinux
import Glibc
package import LinuxSystem
import Machines

/// What a guest's requests for files come over, one behind the other, and their answers go back.
@Loop
package protocol FileStream: AnyObject, Sendable {
    /// Takes what is there, at most so many bytes; none where there is nothing yet, nil where nothing comes any more.
    func take(atMost count: Int) throws -> [UInt8]?
    /// Waits until there may be more to take.
    func more() async throws
    /// Gives it all of these bytes.
    func give(_ bytes: [UInt8]) async throws
}

/// Carries a guest's requests for files to a share server, and its answers back, where the two share no memory; to the server we are what a VMM
/// is to it (vhost-user), with a queue in a memory of our own.
@Loop
package final class FileRelay {
    private let memory: UnsafeMutableRawPointer
    private var queue: FileQueue
    /// What tells the server of requests, and us of answers.
    private let kick: SharedDescriptor
    private let call: SharedDescriptor
    private let link: ShareServerLink
    /// Answers of our own, for the one who writes.
    private var own: [[UInt8]] = []
    /// What came of a request that is not whole yet.
    private var part: [UInt8]
    /// Whether no request is taken at the moment, and what must have come to its end before that is so.
    private var isHeld = false
    private var isTaking = false
    private var isGiving = false
    /// Where those wait who depend on one of these, or on room in the queue.
    private let changed = Gate()
    /// How the carrying came to its end.
    private var outcome: Result<Void, any Error>?
    private var failure: (any Error)?
    private var asking: Task<Void, any Error>?

    /// What a saved guest and its server knew of each other when no request was under way.
    package struct Saved: Sendable {
        /// The beginning of a request, the rest of which the guest has.
        package var part: [UInt8]
        /// What the server wrote, in a file of its own, from its beginning.
        package var server: SharedDescriptor

        package init(part: [UInt8], server: SharedDescriptor) {
            self.part = part
            self.server = server
        }
    }

    /// Settles everything with the server that listens at the other end of `connection`, which ends when that closes. One of a restored guest is
    /// told first what the guest's last one knew.
    package init(_ connection: SharedDescriptor, from saved: Saved? = nil) async throws {
        kick = SharedDescriptor(owning: try checked("make an event") { eventfd(0, O_CLOEXEC | O_NONBLOCK) })
        call = SharedDescriptor(owning: try checked("make an event") { eventfd(0, O_CLOEXEC | O_NONBLOCK) })
        let file = try makeMemoryFile("share", canBeSealed: true)
        try checked("set the length of", "a memory file") { ftruncate(file.raw, FileQueue.bytes) }
        // F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW: else the server could make our next look at it the last.
        try checked("seal", "a memory file") { fcntl(file.raw, 1033, 7) }
        guard let mapped = mmap(nil, FileQueue.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0), mapped != MAP_FAILED
        else {
            throw SystemError("map", "a memory file")
        }
        memory = mapped
        queue = FileQueue(mapped, at: ShareServerLink.base)
        part = saved?.part ?? []
        link = ShareServerLink(connection)
        try await withDeadline(.seconds(120), awaiting: "the share server's answer") { [link, kick, call] in
            try await link.open(memory: file, bytes: FileQueue.bytes)
            if let saved { try await link.load(saved.server) }
            try await link.start(from: 0, kick: kick, call: call)
        }
    }

    isolated deinit { munmap(memory, FileQueue.bytes) }

    /// Carries until nothing comes any more, or the task is cancelled. Throws where either side breaks the rules.
    package func carry(_ stream: any FileStream) async throws {
        let requests = Task { @Loop in try await self.carryRequests(stream) }
        asking = requests
        let answers = Task { @Loop in
            do { try await self.carryAnswers(stream) } catch is CancellationError {
            } catch let error as SystemError where error.code == EPIPE {
                // Who hung up wants no answers, and asks no more.
            } catch { self.fail(error) }
        }
        var outcome = await withTaskCancellationHandler {
            await requests.result
        } onCancel: {
            requests.cancel()
        }
        answers.cancel()
        await answers.value
        if let failure { outcome = .failure(failure) }
        self.outcome = outcome
        changed.open()
        try outcome.get()
    }

    /// Ends the carrying, which says why.
    private func fail(_ error: any Error) {
        failure = error
        asking?.cancel()
    }

    private func carryRequests(_ stream: any FileStream) async throws {
        while true {
            if isHeld {
                try await changed.wait()
                continue
            }
            guard let bytes = try stream.take(atMost: FileMessage.limit) else { return }
            if bytes.isEmpty {
                try await stream.more()
                continue
            }
            isTaking = true
            try await request(bytes)
            isTaking = false
            changed.open()
        }
    }

    /// Asks the server what is whole with these bytes.
    private func request(_ bytes: [UInt8]) async throws {
        part += bytes
        var start = 0
        while let length = try FileMessage.requestLength(part[start...]), part.count - start >= length {
            let request = part[start..<start + length]
            start += length
            if let answer = FileMessage.ownAnswer(request) {
                while own.count >= FileQueue.slots { try await changed.wait() }
                own.append(answer)
                signal(call)
                continue
            }
            while !queue.hasRoom { try await changed.wait() }
            queue.give(request)
            signal(kick)
        }
        part.removeFirst(start)
    }

    private func carryAnswers(_ stream: any FileStream) async throws {
        var count: UInt64 = 0
        while true {
            try await readable(call.raw)
            // Before the look, so that what comes after it is told again.
            _ = read(call.raw, &count, 8)
            isGiving = true
            while let answer = try queue.take() {
                changed.open()
                if !answer.isEmpty { try await stream.give(answer) }
            }
            while let answer = own.popLast() {
                changed.open()
                try await stream.give(answer)
            }
            isGiving = false
            changed.open()
        }
    }

    private func signal(_ event: SharedDescriptor) {
        var one: UInt64 = 1
        // A counter that is full is an event that was not looked at yet.
        _ = write(event.raw, &one, 8)
    }

    // MARK: saving

    /// Takes no more requests until `goOn()`. Returns when none is under way, and the stream has every answer: what the guest has and what the server
    /// knows go together then. Throws when the task is cancelled, or requests are not carried any more; one that is carried later is held, too.
    package func hold() async throws {
        isHeld = true
        while isTaking || isGiving || !queue.isIdle || !own.isEmpty {
            if outcome != nil { break }
            try await changed.wait()
        }
        guard let outcome else { return }
        try outcome.get()
        throw MachineError(.ended, "the guest's files are not carried any more")
    }

    /// Takes requests again. Nothing happens where they are taken.
    package func goOn() {
        isHeld = false
        changed.open()
    }

    /// Whether what the server knows can be saved.
    package var canBeSaved: Bool { link.hasStates }

    /// What the guest's next server must know; call it while requests are held. A server that says that it cannot goes on; one that does not
    /// answer ends the carrying.
    package func save() async throws -> Saved {
        precondition(isHeld, "a share is saved while nothing is asked of its server")
        let file = try makeMemoryFile("files", canBeSealed: true)
        // In a task of its own: whoever is cancelled leaves a server that goes on.
        let transfer = Task { @Loop in try await self.transfer(to: file) }
        let refusal: (any Error)?
        do { refusal = try await transfer.value } catch {
            fail(error)
            throw error
        }
        if let refusal { throw refusal }
        // F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK: the server has it open still.
        try checked("seal", "what the share server saved") { fcntl(file.raw, 1033, 14) }
        try checked("go back in", "what the share server saved") { lseek(file.raw, 0, SEEK_SET) }
        return Saved(part: part, server: file)
    }

    /// Has the server save to `file`. Returns why it would not; throws where it is not known how it is.
    private func transfer(to file: SharedDescriptor) async throws -> (any Error)? {
        let link = link
        let base = try await withDeadline(.seconds(30), awaiting: "the share server's stop") { try await link.stop() }
        guard base == UInt64(queue.next) else { throw MachineError(.refused, "the share server lost count of requests") }
        var refusal: (any Error)?
        do {
            try await withDeadline(.seconds(120), awaiting: "the share server's state") { try await link.save(to: file) }
        } catch let error as MachineError where error.code == .refused { refusal = error }
        try await withDeadline(.seconds(30), awaiting: "the share server's going on") { [kick, call] in
            try await link.start(from: base, kick: kick, call: call)
        }
        return refusal
    }
}
