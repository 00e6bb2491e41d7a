import ArgumentParser
import Glibc
import Kernels
import LinuxSystem
import Sandboxes
import Storage

/// A verb: parsed, then performed on the loop. Its result is the exit code.
protocol Verb: ParsableCommand, Sendable {
    @Loop func perform() async throws -> Int32
}

/// A verb that takes containers and no flags. The parser looks at a verb through the Swift runtime, which takes longer than such a verb does
/// (docs/adr/030): it is asked for help and complaints only.
protocol ContainersVerb: Verb {
    var containers: [String] { get set }
}

extension Verb {
    mutating func run() throws {
        let verb = self
        let result: Result<Int32, any Error> = Loop.run {
            do { return .success(try await verb.perform()) } catch { return .failure(error) }
        }
        fflush(nil)
        switch result {
        case .success(let code): Glibc.exit(code)
        case .failure(let error): Complaint.exit(with: error)
        }
    }

    /// The store of containers, after what killed monitors left was taken back.
    @Loop func openStore() async throws -> ContainerStore {
        guard geteuid() == 0 else {
            throw SandboxError("hull needs root, for taps, mounts and cgroups: run it with sudo")
        }
        let store = ContainerStore(Globals.roots, drivers: Drivers.all)
        await Reaper(store).reapDead { Complaint.remark($0) }
        do { try await store.roots.templates.collectLeftovers(by: Drivers.all) } catch {
            Complaint.remark("cannot take back what a killed maker of templates left: \(error)")
        }
        do { try store.roots.awake.collectLeftovers() } catch {
            Complaint.remark("cannot take back what a killed keeper of a template left: \(error)")
        }
        do { try store.roots.snapshots.collectLeftovers() } catch {
            Complaint.remark("cannot take back what a killed maker of snapshots left: \(error)")
        }
        do { try store.roots.stubdomains.collectLeftovers() } catch {
            Complaint.remark("\(error)")
        }
        do { try store.roots.kernels.collectLeftovers() } catch {
            Complaint.remark("cannot take back what a killed hull kernel left: \(error)")
        }
        return store
    }
}

/// What is said to the user on standard error.
enum Complaint {
    /// Ends the program as the error wants it.
    static func exit(with error: any Error) -> Never {
        if let error = error as? any HullError {
            say("hull: \(error)")
            Glibc.exit(error.exitCode)
        }
        if error is CancellationError { Glibc.exit(130) }
        let parserCode = Hull.exitCode(for: error)
        let message = Hull.fullMessage(for: error)
        if parserCode == .success {
            print(message)
            fflush(nil)
            Glibc.exit(0)
        }
        if !message.isEmpty { say(message) }
        Glibc.exit(parserCode == .validationFailure ? 125 : parserCode.rawValue)
    }

    /// Something worth knowing that stops nothing.
    static func remark(_ text: String) { say("hull: \(text)") }

    private static func say(_ text: String) {
        fflush(nil)
        StandardStreams.complain(text)
    }
}
