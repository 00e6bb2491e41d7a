import Glibc
public import LinuxSystem

extension Spawn {
    /// This very program as a process of Hull's own, named `hull-` and the first of `words`: out of every terminal's reach, without input and
    /// output, and with nothing of the environment but a `PATH`, what Hull itself reads (`variables` beside what both programs read), and
    /// `settings` (`NAME=value` each).
    public static func own(
        _ words: [String], complaints: any DescriptorSource, variables: [String] = [], settings: [String] = []
    ) throws -> Spawn {
        let known = [
            "HULL_BOOT_TIMEOUT", "HULL_FAULT", "HULL_LIBEXEC", "HULL_QEMU", "HULL_TEMPLATE_AWAKE", "HULL_TEMPLATE_LIMIT",
            "HULL_VIRTIOFSD",
        ]
        let kept = (known + variables).compactMap { name in
            getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : "\(name)=\($0)" }
        }
        var how = Spawn(
            "/proc/self/exe", words,
            environment: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] + settings + kept)
        how.arguments[0] = "hull-\(words[0])"
        let null = SharedDescriptor(try openFile("/dev/null", O_RDWR))
        how.descriptors = [(null, 0), (null, 1), (complaints, 2)]
        how.newSession = true
        how.directory = "/"
        return how
    }
}
