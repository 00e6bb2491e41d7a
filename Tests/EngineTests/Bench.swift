import Glibc
import LinuxSystem

/// Where the engines' tests find what they need, and whether it is there.
enum Bench {
    static let repository = String(#filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined())
    private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    /// hull-runtime.
    static let program = variable("HULL_RUNTIME_BIN") ?? "\(repository)/bin/hull-runtime"
    /// The test image, as `docker save` writes one.
    static let archive = images + "/engines.docker.tar"
    /// The image of a pod's sandbox.
    static let pause = images + "/pause.docker.tar"
    private static let images = variable("HULL_IMAGES") ?? "\(repository)/.build/images"
    static let image = "localhost/box"

    /// HULL_ENGINES=all runs every row; otherwise only the short selection.
    static let isWhole = variable("HULL_ENGINES") == "all"
    /// HULL_ENGINE_RUNTIMES names the columns, the control first.
    static let runtimes: [Runtime] = {
        let known: [String: Runtime] = ["runc": .runc, "crun": .crun, "hull": .hull]
        return (variable("HULL_ENGINE_RUNTIMES") ?? "runc,hull").split(separator: ",").compactMap { known[String($0)] }
    }()
    /// HULL_ENGINE_ROWS runs only the rows whose name has these words.
    static let only = variable("HULL_ENGINE_ROWS")
    /// HULL_ENGINE_REPORT is a file to which failing rows are written.
    static let report = variable("HULL_ENGINE_REPORT")

    /// Why an engine's tests cannot run here; nil when they can.
    static func obstacle(_ kind: Row.Kind) -> String? {
        if geteuid() != 0 { return "root is needed" }
        let programs: [Row.Kind: [String]] = [
            .docker: ["/usr/sbin/dockerd", "/usr/bin/docker", "/usr/bin/docker-init"],
            .podman: ["/usr/bin/podman", "/usr/bin/conmon", "/usr/bin/docker-init"],
            .containerd: ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/bin/docker-init"],
            .cri: ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/bin/docker-init", "/usr/lib/cni/bridge"],
        ]
        let needed = programs[kind, default: []] + runtimes.map(\.path)
        if let missing = needed.first(where: { access($0, X_OK) != 0 }) { return "\(missing) is missing" }
        if kind == .cri, !exists("/usr/lib/python3/dist-packages/grpc") { return "python3-grpcio is missing" }
        return exists(archive) && exists(pause) ? nil : "\(archive) is missing: make images"
    }

    /// Whether an engine's rows can run; says why not.
    static func canRun(_ kind: Row.Kind) -> Bool {
        // The tests run on it.
        Loop.runInBackground()
        if let obstacle = obstacle(kind) { print("skipped: \(kind.rawValue) under \(runtimes.map(\.name)): \(obstacle)") }
        return obstacle(kind) == nil
    }
}
