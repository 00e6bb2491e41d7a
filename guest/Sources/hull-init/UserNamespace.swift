import AgentProtocol
import CGuest

/// A container's user namespace: everything is made outside of it, by root, as files of the ids that are root inside; the
/// process enters it last.
struct UserNamespace {
    private let users: [IDRange]
    private let groups: [IDRange]
    /// The child's own folder in the agent's /proc, of which nothing is left in the container's root. It is closed by exec.
    private let own: Int32

    /// Nil for a container without one. Call it in the child, before it changes its root.
    init?(_ container: ContainerConfiguration) throws(AgentFailure) {
        guard !container.userIDs.isEmpty else { return nil }
        users = container.userIDs
        groups = container.groupIDs
        let opened = guest_open("/proc/self", O_PATH | O_DIRECTORY, 0)
        if opened < 0 { throw Self.failure("finding the process", -opened) }
        own = opened
    }

    private static func failure(_ what: String, _ number: Int32) -> AgentFailure {
        AgentFailure(.security, "user namespace: \(what): \(KernelError(number).words)", errno: number)
    }

    /// What an id inside is outside.
    static func outside(_ id: UInt32, _ ranges: [IDRange]) throws(AgentFailure) -> UInt32 {
        guard !ranges.isEmpty else { return id }
        guard let outer = ranges.outside(id) else {
            throw AgentFailure(.security, "user namespace: the id \(id) is not mapped", errno: EINVAL)
        }
        return outer
    }

    /// From now on files belong to who is root inside, and every capability stays.
    func actAsRoot() throws(AgentFailure) {
        guest_act_as(try Self.outside(0, users), try Self.outside(0, groups))
        // The change of the file system's user took those of files away.
        let done = guest_capset(Program.known, Program.known, 0)
        if done < 0 { throw Self.failure("keeping capabilities", -done) }
    }

    /// Enters it, as its root.
    func enter() throws(AgentFailure) {
        let done = guest_enter_user_namespace(own, Self.text(users), Self.text(groups))
        if done < 0 { throw Self.failure("making it", -done) }
        try Self.becomeRoot()
    }

    /// In a process that has just entered one: its ids are nobody's there.
    static func becomeRoot() throws(AgentFailure) {
        if setgroups(0, nil) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 {
            throw failure("becoming its root", guest_errno())
        }
    }

    private static func text(_ ranges: [IDRange]) -> String {
        var text = ""
        for range in ranges { text += "\(range.inside) \(range.outside) \(range.count)\n" }
        return text
    }
}
