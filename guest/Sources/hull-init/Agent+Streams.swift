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
            let allowance = process.discards ? Limits.data : (isOutput ? process.outputWindow : process.errorWindow).allowance
            guard allowance > 0, queue.count < Self.queueLimit else { return watch(process, stream, false) }
            guard rounds < 8 else { return watch(process, stream, true) }
            rounds += 1
            let wanted = min(allowance, Limits.data)
            let got = chunk.withUnsafeMutableBytes { read(number, $0.baseAddress! + FrameHeader.size, wanted) }
            if got > 0 {
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

    private func deliver(_ process: Process, _ stream: StreamKind, _ count: Int) {
        if process.discards { return }
        let offset: UInt64
        if stream == .output {
            offset = process.outputWindow.offset
            process.outputWindow.sent(count)
        } else {
            offset = process.errorWindow.offset
            process.errorWindow.sent(count)
        }
        let header = FrameHeader(.data, type: stream.rawValue, length: count, id: process.id, offset: offset).encoded
        let port = self.port.number
        var sent = 0
        chunk.withUnsafeMutableBytes { raw in
            raw.copyBytes(from: header)
            let total = FrameHeader.size + count
            if queue.isEmpty, portWritable {
                let wrote = write(port, raw.baseAddress, total)
                if wrote > 0 { sent = wrote } else { portWritable = false }
            }
            if sent < total { queue.append(UnsafeRawBufferPointer(rebasing: raw[sent..<total])) }
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
