import Glibc

/// Programs of the host.
public enum HostProgram {
    /// The path of the program `name`: the distribution's own, else one that the host's owner put there. Nil where no usual place has it.
    public static func path(_ name: String) -> String? {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"].map { "\($0)/\(name)" }
            .first { access($0, X_OK) == 0 }
    }
}
