import AgentProtocol
import CGuest

extension Agent {
    /// Takes every child that ended, ours and orphans of containers.
    func reap() {
        while true {
            var status: Int32 = 0
            let pid = waitpid(-1, &status, WNOHANG)
            if pid <= 0 { break }
            if pid == waiting?.pid { abandonWaiting() }
            guard let process = processes.values.first(where: { $0.pid == pid && $0.exit == nil }) else { continue }
            if process.pendingRequest != nil { readStart(process) }
            var exit = ProcessExit()
            exit.code = UInt32(guest_exit_code(status))
            exit.signal = UInt32(guest_exit_signal(status))
            if let container = containers[process.container], exit.signal == UInt32(SIGKILL) || exit.code == 137 {
                exit.outOfMemory = container.oomKills() > process.oomKillsBefore
            }
            process.exit = exit
            if process.pendingRequest != nil { endStart(process) }
            pump(process, .output)
            pump(process, .error)
            finish(process)
        }
        let retry = dying
        dying = retry.filter { rmdir($0) < 0 && guest_errno() == EBUSY }
    }

    /// Reads what a starting child says: its terminal, what failed; nothing more when its program runs.
    func readStart(_ process: Process) {
        guard let socket = process.start?.number else { return }
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            var passed: Int32 = -1
            let got = guest_receive(socket, &buffer, buffer.count, &passed)
            if passed >= 0 {
                _ = guest_fcntl(passed, F_SETFL, Int(O_RDWR | O_NONBLOCK))
                let input = guest_fcntl(passed, F_DUPFD_CLOEXEC, 0)
                if input >= 0 { process.input = Descriptor(owning: input) }
                process.output = Descriptor(owning: passed)
            }
            if got == -EAGAIN { return }
            if got > 0 {
                if buffer[0] == 72 {
                    answerStart(process)
                    continue
                }
                if buffer[0] == 70 {
                    let failure = try? AgentFailure(decoding: Array(buffer[1..<Int(got)]))  // ours, cut at worst
                    process.failure = failure ?? AgentFailure(.other, "the process could not be started")
                }
                continue
            }
            return endStart(process)
        }
    }

    /// Answers the request that started the process.
    func endStart(_ process: Process) {
        if let socket = process.start?.number { loop.remove(socket) }
        process.start = nil
        guard let request = process.pendingRequest else { return }
        if let failure = process.failure {
            process.pendingRequest = nil
            fail(FrameHeader(.request, type: process.pendingKind.rawValue, id: request), failure)
            processes[process.id] = nil
            if !process.isExec { containers[process.container]?.initProcess = nil }
            return
        }
        answerStart(process)
    }

    /// Says that it runs, or stands ready.
    private func answerStart(_ process: Process) {
        guard let request = process.pendingRequest else { return }
        process.pendingRequest = nil
        let header = FrameHeader(.request, type: process.pendingKind.rawValue, id: request)
        var started = ProcessStarted()
        started.pid = UInt32(process.pid)
        reply(header, started)
        writeInput(process)
        pump(process, .output)
        pump(process, .error)
    }

    /// The kernel counted something in a container's memory.events.
    func memoryEvent(_ index: UInt64) {
        guard let container = containers.values.first(where: { $0.index == index }) else { return }
        let kills = container.oomKills()
        guard kills > container.reportedKills else { return }
        container.reportedKills = kills
        var event = OutOfMemory()
        event.container = container.configuration.id
        event.kills = kills
        if greeted { send(.event, EventKind.outOfMemory.rawValue, 0, event) }
    }
}
