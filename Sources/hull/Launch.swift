import Glibc
import LinuxSystem
import Sandboxes
import Storage

/// Starts a container's monitor: PID 1 of a pid and a mount namespace of its own, out of this terminal's reach, so that it
/// outlives the verb and takes everything with it when it ends.
enum Launch {
    /// The process, and the first connection to it, over which it waits for `start`.
    @Loop static func monitor(of container: Container) async throws -> (client: MonitorClient, process: ChildProcess) {
        if let warning = try SharedTree.warning(for: container.record) { StandardStreams.complain("hull: \(warning)") }
        let (ours, theirs) = try makeSocketPair(nonBlocking: true)
        let log = SharedDescriptor(try openFile(container.paths.monitorLog, O_WRONLY | O_CREAT | O_APPEND))
        var how = try own(["monitor", container.id], log)
        how.descriptors.append((theirs, 3))
        how.namespaces = 0x2000_0000 | 0x0002_0000  // CLONE_NEWPID, CLONE_NEWNS
        return (MonitorClient(ours), try how.spawn())
    }

    /// Starts the maker of templates: PID 1 of namespaces of its own, so that a kill takes its machine along. One in the background
    /// outlives the verb and gives way to everything else; its complaints go to the folder of templates.
    @Loop @discardableResult static func templateBuilder(isBackground: Bool) throws -> ChildProcess {
        var complaints: any DescriptorSource = Int32(2)
        if isBackground { complaints = try log("\(Globals.roots.templates.path)/build.log") }
        var how = try own(["template-builder"] + (isBackground ? ["--background"] : []), complaints)
        how.namespaces = 0x2000_0000 | 0x0002_0000 | 0x4000_0000  // CLONE_NEWPID, CLONE_NEWNS, CLONE_NEWNET
        return try how.spawn()
    }

    /// A verb of Hull's own, with this one's roots.
    private static func own(_ words: [String], _ complaints: any DescriptorSource) throws -> Spawn {
        let roots = Globals.roots
        return try .own(
            words, complaints: complaints, settings: ["HULL_ROOT=\(roots.data)", "HULL_EXEC_ROOT=\(roots.runtime)"])
    }

    private static func log(_ path: String) throws -> SharedDescriptor {
        SharedDescriptor(try openFile(path, O_WRONLY | O_CREAT | O_TRUNC))
    }

    /// Has templates made that starts found missing, when the start is over. Nobody waits for it, and nothing depends on it.
    @Loop static func makeWantedTemplates() {
        do {
            if try !Globals.roots.templates.wanted().isEmpty { try templateBuilder(isBackground: true) }
        } catch {
            Complaint.remark("no template can be made: \(error)")
        }
    }

    /// Has pools filled again that a start took a machine from. As above.
    @Loop private static func fillPools() {
        do {
            let pools = PoolStore(ContainerStore(Globals.roots, drivers: Drivers.all))
            guard try pools.isWanting() else { return }
            _ = try own(["pool-keeper"], try log(pools.log)).spawn()
        } catch {
            Complaint.remark("the pools are not filled again: \(error)")
        }
    }

    /// Has somebody watch over machines that wait for their tenants' next containers. As above.
    @Loop private static func keepResidents() {
        do {
            guard try ResidentStore(Globals.roots, drivers: Drivers.all).areThere() else { return }
            _ = try own(["resident-keeper"], SharedDescriptor(try openFile("/dev/null", O_RDWR))).spawn()
        } catch {
            Complaint.remark("nobody watches over the resident machines, which go with a later verb: \(error)")
        }
    }

    /// Has templates woken that starts used. As above.
    @Loop static func wakeTemplates() {
        do {
            try TemplateKeeper.startWanted(Globals.roots) { try own($0, $1) }
        } catch {
            Complaint.remark("no template is kept awake: \(error)")
        }
    }

    /// What starts leave to be made for the next ones.
    @Loop static func makeWanted() {
        makeWantedTemplates()
        wakeTemplates()
        fillPools()
        keepResidents()
    }

    /// The same, for a verb that stays with its container: once it has run for a while, so that its start is not slowed.
    @Loop static func makeWantedLater() -> Task<Void, Never> {
        Task { @Loop in
            // Cancelled when the container ends first: the verb does it then.
            do { try await sleep(for: .seconds(3)) } catch { return }
            makeWanted()
        }
    }
}
