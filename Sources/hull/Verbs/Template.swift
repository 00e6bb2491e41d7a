import ArgumentParser
import Glibc
import LinuxSystem
import Sandboxes
import Storage

/// Pre-booted machines.
struct TemplateVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "template",
        abstract: "Booted machines that new ones are cloned from.",
        discussion: """
            The first start of a machine of some shape (processors, memory, devices, kernel) leaves a template behind, and later \
            starts are clones of it. Nothing has to be done for that; these verbs show and prepare.
            """,
        subcommands: [List.self, Build.self, Remove.self])

    struct List: Verb {
        static let configuration = CommandConfiguration(commandName: "ls", abstract: "List templates.")
        @Flag(name: .shortAndLong, help: "Only keys.") var quiet = false
        @Option(name: .long, help: "json, or a template.") var format: String?

        func perform() async throws -> Int32 {
            let roots = try await openStore().roots
            let store = roots.templates
            let rows: [[String: String]] = try store.keys().map { key in
                switch store.find(key) {
                case .ready(let one):
                    [
                        "Key": key, "Machine": one.manifest.title, "Size": ByteCount.format(one.size), "Bytes": "\(one.size)",
                        "Created": Timestamp(nanoseconds: one.manifest.created).rfc3339,
                        "Used": Timestamp(nanoseconds: Int64(one.lastUsed) * 1_000_000_000).rfc3339,
                        "Awake": roots.awake.isAwake(key) ? "yes" : "no",
                    ]
                case .damaged(let reason): ["Key": key, "Machine": "damaged: \(reason)"]
                case .missing: ["Key": key, "Machine": "being removed"]
                }
            }
            try Table(
                columns: [
                    .init(key: "Key", title: "TEMPLATE"), .init(key: "Machine", title: "MACHINE"),
                    .init(key: "Size", title: "SIZE"),
                    .init(key: "Used", title: "LAST USED"), .init(key: "Awake", title: "AWAKE"),
                ], rows: rows
            ).print(format: format, quiet: quiet, quietKey: "Key")
            return 0
        }
    }

    struct Build: Verb {
        static let configuration = CommandConfiguration(
            commandName: "build",
            abstract: "Make the template of a machine now.",
            discussion: """
                The flags are those of hull run, as far as the machine depends on them. Where templates are kept awake, it is when this \
                ends: the very next start is a copy of it.
                """)
        @OptionGroup var shape: ShapeOptions
        @Flag(name: .long, help: "For containers with bind mounts or volumes.") var share = false

        func perform() async throws -> Int32 {
            let store = try await openStore()
            let templates = store.roots.templates
            let (key, waking) = try await TemplateWish(roots: store.roots, drivers: Drivers.all).make(
                try shape.request(), share: share)
            store.roots.awake.forget(key)
            // Somebody else may be at it, and at this very one.
            try await withDeadline(.seconds(600), awaiting: "the template \(key)") {
                while try templates.wanted().contains(where: { $0.key == key }) {
                    let builder = try Launch.templateBuilder(isBackground: false)
                    let end = try await builder.wait()
                    // One that finds another at work ends well, and the wish stays.
                    guard end.isSuccess else { throw SandboxError("the maker of templates ended before the template was made") }
                    if try templates.wanted().contains(where: { $0.key == key }) { try await sleep(for: .milliseconds(100)) }
                }
            }
            guard case .ready = templates.find(key) else {
                throw SandboxError("the template \(key) was not made: \(templates.reasonOfRefusal(key) ?? "it gave no reason")")
            }
            if let waking { try await store.roots.awake.wake(key, waking, start: Launch.wakeTemplates) }
            print(key)
            return 0
        }
    }

    struct Remove: Verb {
        static let configuration = CommandConfiguration(
            commandName: "rm", abstract: "Remove templates; machines made of them go on.")
        @Flag(name: .long, help: "All of them.") var all = false
        @Argument(help: "Keys, or beginnings of keys.") var keys: [String] = []

        func perform() async throws -> Int32 {
            let roots = try await openStore().roots
            let known = try roots.templates.keys()
            // The keeper of one that is awake sees it go.
            func remove(_ key: String) throws {
                try roots.templates.remove(key)
                roots.awake.forget(key)
            }
            if all { for key in known { try remove(key) } }
            return try await ForEach.container(keys) { wanted in
                let matches = known.filter { !wanted.isEmpty && $0.hasPrefix(wanted) }
                guard matches.count == 1 else {
                    throw SandboxError(
                        matches.isEmpty ? "No such template: \(wanted)" : "the key \(wanted) is ambiguous: give more of it",
                        exitCode: 1)
                }
                try remove(matches[0])
                print(matches[0])
                return 0
            }
        }
    }
}

/// The maker of templates. Hull starts it itself, in namespaces of its own.
struct TemplateBuilderVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "template-builder", abstract: "The maker of templates; started by run, start and template build.",
        shouldDisplay: false)

    @Flag var background = false

    mutating func run() throws {
        guard getpid() == 1 else {
            throw SandboxError("hull template-builder is started by hull itself: use hull template build")
        }
        if background { Priority.yieldToAll() }
        let roots = Globals.roots
        let result: Result<Void, any Error> = Loop.run {
            do { return .success(try await TemplateBuilder(roots: roots, drivers: Drivers.all).makeWanted()) } catch {
                return .failure(error)
            }
        }
        if case .failure(let error) = result { Complaint.exit(with: error) }
    }
}

/// The keeper of a template that is awake. Hull starts it itself, in namespaces of its own.
struct TemplateKeeperVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "template-keeper", abstract: "Keeps a template awake; started by run and start.", shouldDisplay: false)

    @Argument var key: String

    mutating func run() throws {
        let (roots, key) = (Globals.roots, key)
        let result: Result<Void, any Error> = Loop.run {
            do { return .success(try await TemplateKeeper(roots: roots, drivers: Drivers.all).keep(key)) } catch {
                return .failure(error)
            }
        }
        if case .failure(let error) = result { Complaint.exit(with: error) }
    }
}
