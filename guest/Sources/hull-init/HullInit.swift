import AgentProtocol
import CGuest

@main
enum HullInit {
    static func main() {
        if getpid() != 1 {
            let arguments = Scan.split(TextFile.read("/proc/self/cmdline"), 0).filter { !$0.isEmpty }.map(Scan.text)
            exit(ModuleLoader.run(Array(arguments.dropFirst())))
        }
        guest_signal(SIGPIPE, 1)
        Boot.replaceRoot()
        Boot.mountKernelFileSystems()
        let port = Boot.openPort()
        do throws(KernelError) {
            // A process that writes line by line would wake the agent, and through it the host, for each: let it fill its pipe.
            guest_schedule(1)
            let agent = try Agent(port: port)
            agent.run()
        } catch {
            console("the agent cannot run: \(error.words)")
            exit(1)
        }
    }
}
