import FoundationEssentials
import Glibc
import LinuxSystem
import OCISpec
import Sandboxes

/// A bundle's hooks (config.md, "POSIX-platform Hooks"): programs of the host that get the container's state.
enum Hooks {
    /// Runs them in their order; the first that fails ends it. `namespaces` is the process whose namespaces they run in, if not our own.
    @Loop static func run(_ hooks: [RuntimeSpec.Hook]?, _ state: RuntimeState, in holder: Int32? = nil) async throws {
        for (number, hook) in (hooks ?? []).enumerated() {
            do {
                try await run(hook, state, holder)
            } catch {
                throw SandboxError("error running hook #\(number): \(error)", exitCode: 1)
            }
        }
    }

    @Loop private static func run(_ hook: RuntimeSpec.Hook, _ state: RuntimeState, _ holder: Int32?) async throws {
        var how = Spawn(hook.path, environment: hook.env ?? inherited)
        if let arguments = hook.args, !arguments.isEmpty { how.arguments = arguments }
        how.directory = state.bundle
        if let holder {
            how.networkNamespace = SharedDescriptor(try openFile("/proc/\(holder)/ns/net", O_RDONLY))
            how.mountNamespace = SharedDescriptor(try openFile("/proc/\(holder)/ns/mnt", O_RDONLY))
        }
        let input = Array(try JSONEncoder().encode(state))
        let output: Output
        if let seconds = hook.timeout {
            output = try await withDeadline(.seconds(seconds), awaiting: "the end of the hook \(hook.path)") { [how] in
                try await how.run(input: input)
            }
        } else {
            output = try await how.run(input: input)
        }
        guard output.status == .code(0) else {
            let said = String(decoding: output.standardOutput, as: UTF8.self)
            let status = if case .code(let code) = output.status { "exit status \(code)" } else { "\(output.status)" }
            throw SandboxError("error running hook: \(status), stdout: \(said), stderr: \(output.complaint)", exitCode: 1)
        }
    }

    private static var inherited: [String] {
        var all: [String] = []
        var entry = environ
        while let text = entry.pointee {
            all.append(String(cString: text))
            entry += 1
        }
        return all
    }
}
