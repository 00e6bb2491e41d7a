import ArgumentParser
import Glibc
import Kernels
import LinuxSystem
import Sandboxes
import Storage

/// Kernels of the guest.
struct KernelVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernel",
        abstract: "Kernels for the guests: the host's, or one made for containers.",
        discussion: """
            Machines boot the host's best kernel (a distribution's, from /boot), unless --kernel or hull kernel use names another. \
            hull kernel build makes one from the distribution's source package, with all that containers, systemd, dockerd and Kubernetes \
            need built in; it boots in less time.
            """,
        subcommands: [List.self, Build.self, Use.self, Remove.self])

    struct List: Verb {
        static let configuration = CommandConfiguration(commandName: "ls", abstract: "List kernels.")
        @Flag(name: .shortAndLong, help: "Only names.") var quiet = false
        @Option(name: .long, help: "json, or a template.") var format: String?

        func perform() async throws -> Int32 {
            let roots = try await openStore().roots
            let library = roots.kernels
            let chosen = library.chosen ?? KernelLibrary.host
            var rows: [[String: String]] = []
            // A host may have none: then there is no such row.
            if let host = try? await KernelStore(cache: roots.cache, library: library).kernel(KernelLibrary.host) {
                rows.append(["Name": KernelLibrary.host, "Release": host.release, "Source": host.source])
            }
            for name in try library.names() {
                do {
                    let one = try library.entry(name)
                    rows.append([
                        "Name": name, "Release": one.release, "Source": one.source, "Size": ByteCount.format(one.bytes),
                        "Bytes": "\(one.bytes)", "Created": Timestamp(nanoseconds: Int64(one.built) * 1_000_000_000).rfc3339,
                    ])
                } catch {
                    rows.append(["Name": name, "Release": "damaged"])
                    Complaint.remark("\(error)")
                }
            }
            for index in rows.indices { rows[index]["Used"] = rows[index]["Name"] == chosen ? "yes" : "" }
            try Table(
                columns: [
                    .init(key: "Name", title: "KERNEL"), .init(key: "Release", title: "RELEASE"),
                    .init(key: "Source", title: "SOURCE"),
                    .init(key: "Size", title: "SIZE"), .init(key: "Created", title: "CREATED"), .init(key: "Used", title: "USED"),
                ], rows: rows
            ).print(format: format, quiet: quiet, quietKey: "Name")
            return 0
        }
    }

    struct Build: Verb {
        static let configuration = CommandConfiguration(
            commandName: "build",
            abstract: "Make a kernel from the distribution's source package.",
            discussion: """
                Takes some 15 minutes of a processor and, meanwhile, 3 GB of disk. Prints the new kernel's name; hull kernel use NAME \
                lets machines have it.
                """)
        @Option(name: .long, help: "Linux's source: a folder, or a tar archive (default: the newest /usr/src/linux-source-*).")
        var source: String?
        @Option(name: .long, help: "The options to build in (default: Hull's own).") var config: String?
        @Option(name: .long, help: "A folder of patches for an archive's source (default: Hull's own).") var patches: String?
        @Option(name: .shortAndLong, help: "Compilers at once (default: one for each processor).") var jobs: Int?
        @Flag(name: .shortAndLong, help: "Say nothing but the name.") var quiet = false
        @Argument(help: "Its name (default: its release).") var name: String?

        /// Those that are installed beside this program, where they are.
        private static var ownPatches: String? {
            let folder = Companion.path("hull.patches")
            return exists(folder) ? folder : nil
        }

        func perform() async throws -> Int32 {
            let library = try await openStore().roots.kernels
            let configuration = config.map(Globals.absolute) ?? Companion.path("hull.config")
            guard exists(configuration) else { throw SandboxError("the kernel's configuration \(configuration) is not there") }
            let build = KernelBuild(
                name: name, source: source.map(Globals.absolute), configuration: configuration,
                patches: patches.map(Globals.absolute) ?? Self.ownPatches,
                jobs: jobs ?? max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))))
            print(try await build.run(into: library) { line in if !quiet { Complaint.remark(line) } })
            return 0
        }
    }

    struct Use: Verb {
        static let configuration = CommandConfiguration(
            commandName: "use",
            abstract: "Let machines have this kernel, unless they ask for another.",
            discussion: "Machines that run are not touched; containers that start again get it.")
        @Argument(help: "A name of hull kernel ls; host is the host's best kernel.") var name: String

        func perform() async throws -> Int32 {
            try await openStore().roots.kernels.choose(name)
            print(name)
            return 0
        }
    }

    struct Remove: Verb {
        static let configuration = CommandConfiguration(
            commandName: "rm", abstract: "Remove kernels; machines that run them go on.")
        @Argument(help: "Names.") var names: [String]

        func perform() async throws -> Int32 {
            let library = try await openStore().roots.kernels
            return try await ForEach.printed(names) { try library.remove($0) }
        }
    }
}
