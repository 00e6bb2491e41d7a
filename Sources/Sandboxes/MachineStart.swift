import LinuxSystem
import Machines
import Storage

/// How a sandbox comes to its machine: from what was saved of one, as a clone of a template where there is one, or by a boot
/// (docs/adr/012, 015).
@Loop
struct MachineStart {
    let hypervisor: any Hypervisor
    /// Nil where none may be used.
    let templates: Templates?
    let saved: SavedContainer?
    /// The machine that stays, where one is wanted.
    var resident: Resident?
    let log: (String) -> Void

    /// Runs `body` with the machine. A clone whose agent does not answer as it must is no failure of the container's: its template goes,
    /// and the machine boots. Once it `isGreeted` it is the container's machine, and what fails then fails the container.
    func run(
        _ spec: MachineSpec, in directory: MachineDirectory, isGreeted: @Loop () -> Bool,
        _ body: @Loop (any VirtualMachine, _ isClone: Bool) async throws -> ContainerState.Exit
    ) async throws -> ContainerState.Exit {
        if let saved {
            return try await hypervisor.withMachine(.restore(spec, saved.snapshot), in: directory) { try await body($0, false) }
        }
        if let resident {
            if let parked = try resident.unpark(spec, hypervisor.traits.name) {
                do {
                    return try await hypervisor.withMachine(.parked(spec, parked), in: directory) { try await body($0, true) }
                } catch {
                    if isGreeted() || Task.isCancelled { throw error }
                    log("the resident machine is ended, and another boots: \(error)")
                }
            }
            try await resident.begin(spec, hypervisor.traits.name)
        }
        if let (template, awake) = templates?.find(spec, log) {
            if let awake {
                do {
                    for disk in spec.disks where disk.isFresh { try WritableDisk.replace(disk.path, with: awake.disk(disk.name)) }
                    Fault.point("clone:disk")
                    var snapshot = template.snapshot
                    snapshot.awake = awake.place
                    return try await hypervisor.withMachine(.restore(spec, snapshot), in: directory) {
                        templates?.used(awake)
                        return try await body($0, true)
                    }
                } catch {
                    if isGreeted() || Task.isCancelled { throw error }
                    templates?.giveUp(template, awake, error)
                    log("the template \(template.key) is not awake any more: \(error)")
                }
            }
            do {
                for disk in spec.disks where disk.isFresh { try WritableDisk.replace(disk.path, with: template.disk(disk.name)) }
                Fault.point("clone:disk")
                return try await hypervisor.withMachine(.restore(spec, template.snapshot), in: directory) {
                    try await body($0, true)
                }
            } catch {
                if isGreeted() || Task.isCancelled { throw error }
                log("the template \(template.key) is removed, and the machine boots: \(error)")
                templates?.discard(template, log)
            }
        }
        return try await hypervisor.withMachine(.boot(spec), in: directory) { try await body($0, false) }
    }
}
