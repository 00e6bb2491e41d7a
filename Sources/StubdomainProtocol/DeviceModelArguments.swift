/// QEMU's words in a stubdomain, from what the toolstack left in the store. Pure.
public enum DeviceModelArguments {
    /// `words` is what the toolstack wants; `restoring` the open file that a saved state comes from, `saving` the one that it is written to,
    /// `control` the socket at which QEMU is to listen.
    public static func make(_ words: [String], restoring: Int32, saving: Int32, control: String) -> [String] {
        words.map { $0 == "$STUBDOM_RESTORE_INCOMING_ARG" ? "fd:\(restoring)" : $0 } + [
            "-add-fd", "fd=\(saving),set=1", "-chardev", "socket,id=hull-control,path=\(control),server=on,wait=off", "-mon",
            "chardev=hull-control,mode=control",
        ]
    }
}
