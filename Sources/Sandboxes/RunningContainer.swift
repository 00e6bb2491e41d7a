import AgentClient
import AgentProtocol
import Glibc
import LinuxSystem
import Machines

/// The container of a sandbox while it runs: what the monitor's requests act on.
@Loop
final class RunningContainer {
    let record: ContainerRecord
    let planner: Planner
    let agent: AgentConnection
    let process: GuestProcess
    let streams: ProcessStreams
    let announcer: Announcer
    private let machine: any VirtualMachine
    private var nextProcess: UInt64 = 2

    init(
        record: ContainerRecord, planner: Planner, agent: AgentConnection, process: GuestProcess,
        streams: ProcessStreams,
        machine: any VirtualMachine, announcer: Announcer
    ) {
        self.record = record
        self.planner = planner
        self.agent = agent
        self.process = process
        self.streams = streams
        self.machine = machine
        self.announcer = announcer
    }

    /// Waits for the end of the first process, or of the machine, and ends the machine.
    func finish(_ signals: Signals, keepsFiles: Bool) async throws -> ContainerState.Exit {
        let asked = Task { @Loop in
            // The host asks the monitor to end, e.g. while it shuts down.
            _ = try await signals.next()
            try await self.stop(
                signal: Signals.number(self.record.stopSignal) ?? SIGTERM, seconds: self.record.stopTimeout)
        }
        defer { asked.cancel() }
        await streams.carry()
        let status = try await process.wait()
        Fault.point("container:exited")
        if keepsFiles {
            do {
                try await withDeadline(.seconds(20), awaiting: "the guest's last writes") {
                    try await self.agent.shutdown(.fast)
                }
            } catch {
                StandardStreams.complain("hull-monitor: \(error)")
            }
        }
        await machine.stop(grace: .zero)
        return ContainerState.Exit(code: status.shellCode, finished: 0, oomKilled: process.outOfMemory)
    }

    /// Another process in the container.
    func exec(_ settings: ContainerRecord.ProcessSettings, _ streams: Streams) async throws
        -> GuestProcess
    {
        let number = nextProcess
        nextProcess += 1
        do {
            return try await agent.start(
                try planner.process(settings, number: number, isExec: true, streams: streams))
        } catch let failure as AgentFailure {
            throw SandboxError(agent: failure)
        }
    }

    /// Asks it to end, and ends it after `seconds`: first by SIGKILL in the guest, and where the guest does not obey, with its machine.
    func stop(signal: Int32, seconds: Int) async throws {
        let process = process
        if seconds > 0 || signal != SIGKILL {
            try await process.signal(signal)
            // Neither too late nor gone is news here: what follows kills.
            if (try? await withDeadline(
                .seconds(max(0, seconds)), awaiting: "the container's end", { try await process.wait() }))
                != nil
            {
                return
            }
        }
        do {
            try await withDeadline(.seconds(5), awaiting: "the container's end by SIGKILL") {
                try await process.signal(SIGKILL)
                _ = try await process.wait()
            }
        } catch {
            StandardStreams.complain("hull-monitor: \(error); the machine is ended")
            await machine.stop(grace: .zero)
        }
    }
}
