import Glibc

/// The programs of Hull's own that lie beside the one that runs.
public enum Companion {
    /// The path of `name`: in HULL_LIBEXEC, in our own folder, or in `../libexec/hull` from there, where it is installed. When it
    /// is nowhere, the path where it was expected first.
    public static func path(_ name: String) -> String {
        var folders: [String] = []
        if let named = getenv("HULL_LIBEXEC") { folders.append(String(cString: named)) }
        if let own = readLink("/proc/self/exe"), let slash = own.lastIndex(of: "/") {
            folders.append(String(own[..<slash]))
            folders.append("\(own[..<slash])/../libexec/hull")
        }
        return folders.map { "\($0)/\(name)" }.first(where: exists) ?? "\(folders.first ?? "/usr/libexec/hull")/\(name)"
    }
}
