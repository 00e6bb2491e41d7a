/// Rows that need not pass, each with the reason that docs/compatibility.md gives too.
enum Exceptions {
    /// What the control cannot do on machines like CI's.
    static let ofHost: [String: String] = [
        "--privileged has every capability of the guest": "the machine has no CAP_SYS_RESOURCE to give"
    ]
    /// What the boundary of a machine forbids; at most one row in twenty.
    static let ofMachines: [String: String] = [
        "the host's own network": "a guest has a network stack of its own; the refusal says what to do instead"
    ]
}
