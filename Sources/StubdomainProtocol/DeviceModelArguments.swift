/// QEMU's words in a stubdomain, from what the toolstack left in the store. Pure.
public enum DeviceModelArguments {
    /// The word in whose place stands where a saved state comes from.
    public static let incoming = "$STUBDOM_RESTORE_INCOMING_ARG"

    /// `words` is what the toolstack wants; `restoring` the open file that a saved state comes from, `saving` the one that it is written to,
    /// `control` and `own` the sockets at which QEMU is to listen: for the toolstack, and for whoever starts it. Without anybody connected, QEMU
    /// forgets `saving` (monitor_fdsets_cleanup of monitor/fds.c).
    public static func make(_ words: [String], restoring: Int32, saving: Int32, control: String, own: String) -> [String] {
        words.map { $0 == incoming ? "fd:\(restoring)" : $0 } + [
            "-add-fd", "fd=\(saving),set=1",
            "-chardev", "socket,id=hull-control,path=\(control),server=on,wait=off", "-mon", "chardev=hull-control,mode=control",
            "-chardev", "socket,id=hull-own,path=\(own),server=on,wait=off", "-mon", "chardev=hull-own,mode=control",
        ]
    }
}
