import Glibc

/// What `ps` shows of this process.
public enum ProcessTitle {
    /// Shows another program's words as this process's: it stands for that one, and whoever lists processes by pid looks for it. As many
    /// fit as the own command line has bytes.
    public static func set(_ words: [String]) {
        let count = Int(CommandLine.argc)
        guard let name = words.first, count > 0, let first = CommandLine.unsafeArgv[0],
            let last = CommandLine.unsafeArgv[count - 1]
        else { return }
        let end = last + strlen(last)
        let room = end - first
        guard room > 1 else { return }
        let text = Array(words.joined(separator: " ").utf8.prefix(room - 1))
        memset(first, 0, room)
        for (offset, byte) in text.enumerated() { first[offset] = CChar(bitPattern: byte) }
        // A last byte that is no zero tells the kernel to show the text up to its first zero (fs/proc/base.c, get_mm_cmdline).
        end.pointee = 46
        let short = name.split(separator: "/").last.map(String.init) ?? name
        // A name in lists, and nothing else.
        try? writeFile("/proc/self/comm", Array(short.utf8.prefix(15)))
    }
}
