/// A container engine that can be told of `hull-runtime`.
public enum ContainerEngine: String, CaseIterable, Sendable {
    case docker, podman, containerd, kubernetes
}

/// What is to become of one file, so that an engine knows `hull-runtime` or forgets it. Made by `EngineSetup`; nothing is written yet.
public struct EngineChange: Equatable, Sendable {
    /// The file, below the host's root.
    public var path: String
    /// What is there; nil for no file.
    public var old: String?
    /// What is to be there; nil for no file.
    public var new: String?
    /// What it does, in a sentence.
    public var summary: String
    /// What else must be done or known, a sentence each.
    public var remarks: [String] = []

    /// Whether there is anything to write.
    public var isNothing: Bool { old == new }
}

/// Why a file cannot be edited: a sentence without its path.
public struct TextError: Error, CustomStringConvertible, Equatable {
    public var description: String
    init(_ description: String) { self.description = description }
}

/// Why an engine cannot be told: a sentence with the file.
public struct EngineSetupError: Error, CustomStringConvertible, Equatable {
    public var description: String
    init(_ description: String) { self.description = description }

    init(_ path: String, _ error: TextError) {
        self.init("\(path) is left as it is, because it cannot be read: \(error.description); mend it and try again")
    }
}

/// Plans the edit of an engine's configuration. Pure: files are read by a closure that is given.
public struct EngineSetup: Sendable {
    /// Where `hull-runtime` is, absolute.
    public var runtime: String
    /// Reads a file of the host; nil where there is none.
    public var read: @Sendable (String) throws -> String?
    /// The name under which engines know it.
    public static let name = "hull"

    public init(runtime: String, read: @escaping @Sendable (String) throws -> String?) {
        self.runtime = runtime
        self.read = read
    }

    /// What makes `engine` know the runtime. Doing it twice changes nothing the second time. Throws `EngineSetupError` where a file
    /// cannot be edited without harm.
    public func install(_ engine: ContainerEngine) throws -> EngineChange {
        switch engine {
        case .docker: try docker(installs: true)
        case .podman: try podman(installs: true)
        case .containerd: try containerd(installs: true)
        case .kubernetes: try kubernetes(installs: true)
        }
    }

    /// What makes `engine` forget it. Throws as `install`.
    public func uninstall(_ engine: ContainerEngine) throws -> EngineChange {
        switch engine {
        case .docker: try docker(installs: false)
        case .podman: try podman(installs: false)
        case .containerd: try containerd(installs: false)
        case .kubernetes: try kubernetes(installs: false)
        }
    }
}

extension EngineChange {
    /// The lines that go, with `-` before them, and those that come, with `+`.
    public var differences: [String] {
        func lines(_ text: String?) -> [Substring] {
            var all = (text ?? "").split(separator: "\n", omittingEmptySubsequences: false)
            if all.last == "" { all.removeLast() }
            return all
        }
        var old = lines(old)[...]
        var new = lines(new)[...]
        while let one = old.first, one == new.first {
            old.removeFirst()
            new.removeFirst()
        }
        while let one = old.last, one == new.last {
            old.removeLast()
            new.removeLast()
        }
        return old.map { "- \($0)" } + new.map { "+ \($0)" }
    }
}
