import AgentClient
import LinuxSystem

extension Channel {
    /// Does to `process` what the one at the other end says later, until the connection ends.
    func follow(_ process: GuestProcess) async {
        while let (later, _) = try? await receive(Later.self) {  // ends with the connection
            await later.act(on: process)
        }
    }
}

extension Later {
    /// A process that has just ended has no window and takes no signal; a guest that does not answer keeps nobody from being heard again.
    @Loop
    func act(on process: GuestProcess) async {
        // For both reasons it is no error when this does not succeed.
        try? await withDeadline(.seconds(5), awaiting: "the guest's answer") {
            switch self {
            case .resize(let rows, let columns): try await process.resize(rows: rows, columns: columns)
            case .signal(let signal): try await process.signal(signal)
            case .end: break
            }
        }
    }
}
