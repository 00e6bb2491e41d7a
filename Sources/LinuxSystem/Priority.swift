import Glibc

/// How much of the processors this process may take from others.
public enum Priority {
    /// Takes what nobody else wants: for work that nobody waits for. Children inherit it.
    public static func yieldToAll() {
        // What cannot be lowered stays as it is: the work is done all the same.
        _ = setpriority(__priority_which_t(0 /* PRIO_PROCESS */), 0, 19)
        // Sessions share the processors before processes do (sched(7), "The autogroup feature"); not every kernel has that.
        try? writeFile("/proc/self/autogroup", Array("19".utf8))
    }
}
