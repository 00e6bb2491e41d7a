import LinuxSystem

extension VirtualMachine {
    /// How it ended, if it does so within `duration`; nil when it runs on. (A stream, because who waits for a task's value cannot be
    /// told to stop.)
    public func ended(within duration: Duration) async -> MachineExit? {
        let (ends, end) = AsyncStream.makeStream(of: MachineExit.self)
        Task { @Loop in
            end.yield(await self.wait())
            end.finish()
        }
        // Not to end in time is an answer here.
        return try? await withDeadline(duration, awaiting: "the machine's end") {
            for await exit in ends { return exit }
            throw CancellationError()
        }
    }
}
