import AgentProtocol
import CGuest

/// mount(2) and its relatives, with errors that say what was tried.
enum Mounting {
    /// Mounts, or throws a sentence with both ends of it.
    static func mount(
        _ source: String, _ target: String, _ type: String?, _ flags: UInt = 0, _ data: String? = nil, shown: String? = nil
    ) throws(AgentFailure) {
        let done = withOptional(type) { type in withOptional(data) { data in guest_mount(source, target, type, flags, data) } }
        if done < 0 {
            let kind = type ?? (flags & UInt(MS_BIND) != 0 ? "bind" : "mount")
            throw AgentFailure(
                .mount, "mounting \"\(source)\" (\(kind)) to \"\(shown ?? target)\": \(KernelError(-done).words)", errno: -done)
        }
    }

    private static func withOptional(_ text: String?, _ body: (UnsafePointer<CChar>?) -> Int32) -> Int32 {
        guard let text else { return body(nil) }
        return text.withCString { body($0) }
    }

    /// Makes a directory; one that is there is good. Parents must be there.
    static func makeDirectory(_ path: String, mode: UInt32 = 0o755) throws(AgentFailure) {
        if mkdir(path, mode) < 0, guest_errno() != EEXIST {
            let error = KernelError(guest_errno())
            throw AgentFailure(.mount, "making the directory \"\(path)\": \(error.words)", errno: error.number)
        }
    }

    /// A path for calls that take no descriptor. Needs the /proc of the agent.
    static func path(of descriptor: Int32) -> String { "/proc/self/fd/\(descriptor)" }
}
