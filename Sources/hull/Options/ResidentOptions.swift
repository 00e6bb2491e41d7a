import ArgumentParser
import Sandboxes

/// Whether the machine stays for the next container.
struct ResidentOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Keep the machine for this tenant's next container, and take the one that was kept. One container at a time; see hull resident.",
            valueName: "name"))
    var resident: String?
    @Option(name: .long, help: ArgumentHelp("How long it waits for the next one.", valueName: "seconds")) var residentIdle = 300

    func apply(to request: inout RunRequest) throws {
        guard let resident else { return }
        guard ResidentStore.isName(resident) else { throw ResidentStore.badName(resident) }
        guard (1...86400).contains(residentIdle) else {
            throw SandboxError("--resident-idle \(residentIdle) is out of range: give 1 to 86400 seconds")
        }
        request.machine.resident = .init(name: resident, idle: residentIdle)
    }
}
