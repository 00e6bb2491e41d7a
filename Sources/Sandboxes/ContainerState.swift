public import LinuxSystem

/// What became of a container. Written whole by its monitor, and by whoever finds that the monitor died.
public struct ContainerState: Codable, Sendable {
    public static let version = 1
    public var version = ContainerState.version
    public var status: Status

    public enum Status: Codable, Sendable {
        case created
        /// A monitor is at work; the container does not run yet.
        case starting(Running)
        case running(Running)
        case exited(Exit)
    }

    public struct Running: Codable, Sendable {
        /// The monitor, whose pid stands for the container on the host.
        public var monitor: ProcessIdentity
        /// Nanoseconds since 1970.
        public var started: Int64
        /// The host's boot (/proc/sys/kernel/random/boot_id) it belongs to.
        public var boot: String
        /// The guest's addresses, for `inspect`.
        public var addresses: [String]
        /// What is published, with the ports that were chosen.
        public var ports: [String]
        /// Whether its machine stands still (`hull-runtime pause`).
        public var paused: Bool?
    }

    public struct Exit: Codable, Sendable {
        public var code: Int32
        public var started: Int64?
        public var finished: Int64
        public var oomKilled = false
        /// Why it could not start, or what ended it; empty when its command simply ended.
        public var error = ""
    }

    public init(_ status: Status) { self.status = status }

    /// Docker's word for it.
    public var word: String {
        switch status {
        case .created: "created"
        case .starting: "created"
        case .running(let running): running.paused == true ? "paused" : "running"
        case .exited: "exited"
        }
    }

    /// The monitor of a live container.
    public var monitor: ProcessIdentity? {
        switch status {
        case .starting(let running), .running(let running): running.monitor
        case .created, .exited: nil
        }
    }

    public var isLive: Bool {
        switch status {
        case .starting, .running: true
        case .created, .exited: false
        }
    }
}
