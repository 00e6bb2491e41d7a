import Glibc

/// Where the tests kill Hull: `HULL_FAULT=made:cgroup` in the environment ends the process with SIGKILL when it gets to that
/// point, as a crash or an impatient administrator would. Nothing but the process itself can be hit.
public enum Fault {
    private static let wanted: String? = getenv("HULL_FAULT").map { String(cString: $0) }

    /// Names a point. Costs one comparison where no fault is asked for.
    public static func point(_ name: @autoclosure () -> String) {
        guard let wanted, wanted == name() else { return }
        kill(getpid(), SIGKILL)
        // PID 1 of a pid namespace is immune to its own signals: its end is an exit instead.
        _exit(137)
    }
}
