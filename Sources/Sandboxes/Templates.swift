import FoundationEssentials
import Glibc
import LinuxSystem
import Machines
import Storage

/// Whether a sandbox's machine is a clone of a template: looks for one, and asks for one where there is none.
@Loop
struct Templates {
    private let store: TemplateStore
    private let awake: AwakeTemplates
    private let name: String
    private let templating: any Templating

    /// Nil where templates are not wanted, or the driver knows none.
    init?(_ record: ContainerRecord, _ roots: Roots, _ hypervisor: any Hypervisor) {
        guard record.machine.withoutTemplate != true, let templating = hypervisor.templating else { return nil }
        store = roots.templates
        awake = roots.awake
        name = record.machine.hypervisor
        self.templating = templating
    }

    /// The template for the machine that `spec` describes. Where there is none, `log` gets the reason, and one is wanted. Never throws:
    /// a machine can boot.
    func find(_ spec: MachineSpec, _ log: (String) -> Void) -> (template: TemplateStore.Template, awake: AwakeTemplates.Files?)? {
        do {
            let key = TemplateRecipe.key(try templating.shape(of: spec))
            switch store.find(key) {
            case .ready(let template):
                store.touch(template)
                return (template, wake(template, spec))
            case .missing:
                if store.isRefused(key) { return nil }
                log("there is no template \(key) of this machine yet: it boots")
            case .damaged(let reason):
                log("the template \(key) is removed, and the machine boots: \(reason)")
                try store.remove(key)
            }
            try store.want(key, Array(try JSONEncoder().encode(try TemplateRecipe(spec, hypervisor: name))))
        } catch {
            log("the machine boots, without a template: \(error)")
        }
        return nil
    }

    /// It was copied.
    func used(_ files: AwakeTemplates.Files) { awake.used(files) }

    /// It could not be copied: nobody is to try that again, nor soon another one, unless it was just gone.
    func giveUp(_ template: TemplateStore.Template, _ files: AwakeTemplates.Files, _ error: any Error) {
        // Whoever finds it again fails again, and goes on without.
        try? awake.setAside(template.key, files)
        if let error = error as? SystemError, [ECONNREFUSED, ENOENT, EPIPE, ECONNRESET, EAGAIN].contains(error.code) { return }
        try? awake.refuse(template.key, "\(error)")  // as above
    }

    /// The template's machine that stands by, if it is awake and `spec` may be a copy of it. Has it woken for later starts, where that is of
    /// use; a failure of that is none of this start's.
    private func wake(_ template: TemplateStore.Template, _ spec: MachineSpec) -> AwakeTemplates.Files? {
        guard AwakeTemplates.idle > .zero, templating.waking?.gains(spec) == true else { return nil }
        if !awake.isKept(template.key), !awake.isRefused(template.key) {
            // As it says: without it they start as this one does.
            try? awake.want(template.key, Array(JSONEncoder().encode(TemplateRecipe(spec, hypervisor: name))))
        }
        return awake.find(template.key)
    }

    /// Removes a template that no machine could be made of.
    func discard(_ template: TemplateStore.Template, _ log: (String) -> Void) {
        do { try store.remove(template.key) } catch { log("the template \(template.key) cannot be removed: \(error)") }
    }
}

extension TemplateStore.Template {
    /// As a driver takes it.
    var snapshot: Snapshot { Snapshot(memory: memory, state: state, facts: manifest.facts) }
}
