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
    let machine: any VirtualMachine
    let chronicle: Chronicle
    /// What a save needs to know of it; nil for one that cannot be saved.
    let origin: MachineOrigin?
    /// What stands it still, lets it go on or saves it.
    let turns = Turns()
    let numbers = ProcessNumbers()
    private var isForced = false
    /// Whether its machine stands still because somebody asked for it.
    var isPaused = false

    init(
        record: ContainerRecord, planner: Planner, agent: AgentConnection, process: GuestProcess,
        streams: ProcessStreams,
        machine: any VirtualMachine, announcer: Announcer, chronicle: Chronicle, origin: MachineOrigin? = nil
    ) {
        self.origin = origin
        self.record = record
        self.planner = planner
        self.agent = agent
        self.process = process
        self.streams = streams
        self.machine = machine
        self.announcer = announcer
        self.chronicle = chronicle
    }

    /// Waits for the end of the first process, or of the machine, and ends the machine, unless it could be left for others by `leaving`.
    /// `keepsDisk`: what it wrote is wanted. What it wrote to a share is the host's when its processes have ended: the guest keeps none of that back,
    /// and writes what is mapped when it is unmapped.
    func finish(keepsDisk: Bool, leaving: @Loop () async throws -> Bool) async throws -> ContainerState.Exit {
        await streams.carry()
        let status: ExitStatus
        do { status = try await process.wait() } catch {
            // The machine was ended because the guest did not obey: that is what was asked for.
            if isForced { return ContainerState.Exit(code: 137, finished: 0) }
            throw error
        }
        Fault.point("container:exited")
        let exit = ContainerState.Exit(code: status.shellCode, finished: 0, oomKilled: process.outOfMemory)
        do { if try await leaving() { return exit } } catch {
            StandardStreams.complain("hull-monitor: the machine is not kept: \(error)")
        }
        if keepsDisk {
            do {
                try await withDeadline(.seconds(20), awaiting: "the guest's last writes") {
                    try await self.agent.shutdown(.fast)
                }
                // Its answer comes before its last writes; the machine ends itself when those are done.
                if await machine.ended(within: .seconds(20)) == nil {
                    StandardStreams.complain("hull-monitor: the guest did not finish its last writes within 20 seconds")
                }
            } catch {
                StandardStreams.complain("hull-monitor: \(error)")
            }
        }
        await machine.stop(grace: .zero)
        return exit
    }

    /// Another process in the container.
    func exec(_ settings: ContainerRecord.ProcessSettings, _ streams: Streams) async throws
        -> GuestProcess
    {
        try mustRun("a command can run in it")
        let number = numbers.next()
        do {
            let agent = agent
            let planner = planner
            return try await withDeadline(.seconds(120), awaiting: "the start of the command in the guest") {
                try await agent.start(try planner.process(settings, number: number, isExec: true, streams: streams))
            }
        } catch let failure as AgentFailure {
            throw SandboxError(agent: failure)
        }
    }

    /// Asks it to end, and ends it after `seconds`: first by SIGKILL in the guest, and where the guest does not obey, with its machine.
    func stop(signal: Int32, seconds: Int) async {
        if isPaused {
            // It must run to end. One that cannot be let go on is ended with its machine.
            do { try await unpause() } catch { StandardStreams.complain("hull-monitor: \(error)") }
        }
        let isAsked = seconds > 0 || signal != SIGKILL
        if isAsked, await ends(by: signal, within: .seconds(max(0, seconds))) { return dropStalled() }
        if await ends(by: SIGKILL, within: .seconds(5)) { return dropStalled() }
        await force()
    }

    /// Ends it, when nothing that it wrote is wanted. What it wrote to a share is, and so is a machine that others are to have.
    func discard() async {
        if machine.guest.share == nil, origin != nil { await end() } else { await stop(signal: SIGKILL, seconds: 0) }
    }

    /// Readers that take nothing hold up the container's end, not the answer to who asked for it.
    private func dropStalled() {
        let streams = streams
        Task { @Loop in await streams.dropStalled() }
    }

    /// Sends a signal to the first process. SIGKILL ends it even where the guest does not obey.
    func kill(_ signal: Int32) async throws {
        if signal == SIGKILL { return await stop(signal: SIGKILL, seconds: 0) }
        try mustRun("it can be told something")
        let process = process
        do {
            try await withDeadline(.seconds(10), awaiting: "the guest's answer") { try await process.signal(signal) }
        } catch let failure as AgentFailure where failure.code == .unknown {
            throw SandboxError("container \(record.name) is not running", exitCode: 1)
        }
    }

    /// Whether the process has ended, or its machine, at the end of the time.
    private func ends(by signal: Int32, within duration: Duration) async -> Bool {
        let process = process
        do {
            try await withDeadline(duration, awaiting: "the container's end by signal \(signal)") {
                do { try await process.signal(signal) } catch let failure as AgentFailure where failure.code == .unknown {
                    // It has ended already, and the news is on its way.
                }
                _ = try await process.wait()
            }
            return true
        } catch is AgentConnectionError {
            return true
        } catch {
            StandardStreams.complain("hull-monitor: \(error)")
            return false
        }
    }

    private func force() async {
        StandardStreams.complain("hull-monitor: the guest does not obey: the machine is ended")
        await end()
    }

    /// Ends it with its machine, at once.
    func end() async {
        isForced = true
        await machine.stop(grace: .zero)
        dropStalled()
    }
}
