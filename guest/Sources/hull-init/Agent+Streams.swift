import AgentProtocol
import CGuest

extension Agent {
    /// Up to here the queue to the host may grow with process output.
    private static let queueLimit = 256 << 10

    /// Moves output of every process, as far as credit and the port allow.
    func pumpAll() {
        guard greeted else { return }
        flush()
        for process in Array(processes.values) {
            pump(process, .output)
            pump(process, .error)
        }
    }

    /// Moves output of one stream; ends it when its writers are gone, or when its process is and nothing is left.
    func pump(_ process: Process, _ stream: StreamKind) {
        let isOutput = stream == .output
        guard greeted, process.pendingRequest == nil else { return watch(process, stream, false) }
        guard let number = isOutput ? process.output?.number : process.error?.number else { return finish(process) }
        var rounds = 0
        while true {
            let allowance =
                process.discards ? Self.pieces * Limits.data : (isOutput ? process.outputWindow : process.errorWindow).allowance
            guard allowance > 0 else { return watch(process, stream, false) }
            guard queue.count < Self.queueLimit else {
                isHeldBack = true
                return watch(process, stream, false)
            }
            guard rounds < 4 else { return watch(process, stream, true) }
            rounds += 1
            let wanted = min(allowance, Self.pieces * Limits.data)
            let got = chunk.withUnsafeMutableBytes {
                guest_read_pieces(number, $0.baseAddress, wanted, FrameHeader.size, Limits.data)
            }
            if got > 0 {
                if got >= Self.pipe { widen(process, number) }
                process.lastRead = guest_clock(CLOCK_MONOTONIC)
                process.lastWasSmall = got < 1024
                deliver(process, stream, got)
                continue
            }
            let error = got < 0 ? guest_errno() : 0
            if error == EINTR { continue }
            if error == EAGAIN, process.exit == nil { return watch(process, stream, true) }
            // The end: no writer (0; EIO for a terminal), or the process is gone and what it wrote was read.
            return endStream(process, stream)
        }
    }

    /// A process that writes little and often would cost a message to the host each time (a terminal: for every line two):
    /// what follows a small read within two milliseconds waits until they are over.
    func isDeferred(_ process: Process, _ stream: StreamKind) -> Bool {
        guard process.lastWasSmall, guest_clock(CLOCK_MONOTONIC) &- process.lastRead < 2_000_000 else { return false }
        watch(process, stream, false)
        if !deferred.contains(process.id) { deferred.append(process.id) }
        return true
    }

    /// Reads what was put off, when its time has come.
    func pumpDeferred() {
        guard !deferred.isEmpty else { return }
        let now = guest_clock(CLOCK_MONOTONIC)
        var waiting: [UInt64] = []
        for id in deferred {
            guard let process = processes[id] else { continue }
            if now &- process.lastRead < 2_000_000 {
                waiting.append(id)
            } else {
                pump(process, .output)
                pump(process, .error)
            }
        }
        deferred = waiting
    }

    /// What a pipe holds unless told; and what one of a process that writes much gets.
    private static let pipe = 65536
    private static let widePipe = 4 * pipe

    /// A process that fills its pipe again and again gets a wider one: each change between it and us costs as much as carrying some ten
    /// kilobytes, under software emulation.
    private func widen(_ process: Process, _ number: Int32) {
        guard process.fullReads < 8, !process.hasTerminal else { return }
        process.fullReads += 1
        // A refusal (the kernel's limit for all pipes of a user) leaves it as it was.
        if process.fullReads == 8 { _ = guest_fcntl(number, F_SETPIPE_SZ, Self.widePipe) }
    }

    /// Sends what was read, as frames.
    private func deliver(_ process: Process, _ stream: StreamKind, _ count: Int) {
        if process.discards { return }
        var left = count
        var start = 0
        while left > 0 {
            deliverFrame(process, stream, at: start, min(left, Limits.data))
            start += FrameHeader.size + Limits.data
            left -= Limits.data
        }
    }

    private func deliverFrame(_ process: Process, _ stream: StreamKind, at start: Int, _ count: Int) {
        let offset: UInt64
        if stream == .output {
            offset = process.outputWindow.offset
            process.outputWindow.sent(count)
        } else {
            offset = process.errorWindow.offset
            process.errorWindow.sent(count)
        }
        let header = FrameHeader(.data, type: stream.rawValue, length: count, id: process.id, offset: offset).encoded
        var sent = 0
        chunk.withUnsafeMutableBytes { raw in
            let frame = UnsafeMutableRawBufferPointer(rebasing: raw[start..<(start + FrameHeader.size + count)])
            frame.copyBytes(from: header)
            if queue.isEmpty, portWritable {
                let wrote = port.write(UnsafeRawBufferPointer(frame))
                if wrote > 0 { sent = wrote } else { portWritable = false }
            }
            if sent < frame.count { queue.append(UnsafeRawBufferPointer(rebasing: frame[sent...])) }
        }
    }

    /// Ends an output whose reader on the host has gone: who writes on gets SIGPIPE, or EPIPE. A terminal stays, for its other side.
    func closeOutput(_ process: Process, _ stream: StreamKind) {
        if process.hasTerminal {
            process.discards = true
            pump(process, .output)
        } else if stream == .output ? process.output != nil : process.error != nil {
            endStream(process, stream)
        }
    }

    private func endStream(_ process: Process, _ stream: StreamKind) {
        watch(process, stream, false)
        let offset: UInt64
        if stream == .output {
            process.output = nil
            offset = process.outputWindow.offset
            process.outputWindow.end()
        } else {
            process.error = nil
            offset = process.errorWindow.offset
            process.errorWindow.end()
        }
        queue.append(FrameHeader(.end, type: stream.rawValue, id: process.id, offset: offset).encoded)
        finish(process)
    }

    private func watch(_ process: Process, _ stream: StreamKind, _ on: Bool) {
        if stream == .output {
            guard let number = process.output?.number, process.watchesOutput != on else { return }
            process.watchesOutput = on
            if on { loop.add(number, Ready.input, .output, process.id) } else { loop.remove(number) }
        } else {
            guard let number = process.error?.number, process.watchesError != on else { return }
            process.watchesError = on
            if on { loop.add(number, Ready.input, .error, process.id) } else { loop.remove(number) }
        }
    }

    /// Reports the exit once it is known and all output was sent.
    func finish(_ process: Process) {
        guard greeted, process.pendingRequest == nil, let exit = process.exit, process.output == nil, process.error == nil else {
            return
        }
        send(.event, EventKind.exited.rawValue, process.id, exit)
        if process.watchesInput, let input = process.input?.number { loop.remove(input) }
        processes[process.id] = nil
        if !process.isExec { containers[process.container]?.initProcess = nil }
    }

    /// Writes waiting input to the process, and gives the host credit for what it took.
    func writeInput(_ process: Process) {
        guard process.pendingRequest == nil else { return }
        if let number = process.input?.number {
            while !process.inputQueue.isEmpty {
                let wrote = process.inputQueue.drain { write(number, $0.baseAddress, $0.count) }
                if wrote > 0 {
                    giveCredit(process, wrote)
                    continue
                }
                let error = guest_errno()
                if error == EINTR { continue }
                if error == EAGAIN {
                    if !process.watchesInput {
                        process.watchesInput = true
                        loop.add(number, Ready.output, .input, process.id)
                    }
                    return
                }
                closeInput(process)  // nobody reads any more
                if greeted { send(.event, EventKind.inputClosed.rawValue, process.id, Done()) }
                break
            }
            if process.watchesInput, process.input != nil {
                process.watchesInput = false
                loop.remove(number)
            }
            if process.inputEnds, !process.hasTerminal { closeInput(process) }
        }
        if process.input == nil {
            process.inputQueue.removeAll()
            let left = process.inputWindow.offset - process.inputWindow.taken
            if left > 0 { giveCredit(process, Int(left)) }
        }
    }

    func closeInput(_ process: Process) {
        guard let number = process.input?.number else { return }
        if process.watchesInput { loop.remove(number) }
        process.watchesInput = false
        process.input = nil
    }

    private func giveCredit(_ process: Process, _ count: Int) {
        guard let limit = process.inputWindow.take(count), greeted else { return }
        queue.append(FrameHeader(.credit, type: StreamKind.input.rawValue, id: process.id, offset: limit).encoded)
    }

    /// Tells the host every input limit, at the begin of an epoch.
    func repeatCredit() {
        for process in processes.values {
            queue.append(
                FrameHeader(.credit, type: StreamKind.input.rawValue, id: process.id, offset: process.inputWindow.limit).encoded)
        }
    }
}
