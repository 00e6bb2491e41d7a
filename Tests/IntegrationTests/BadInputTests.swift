import Glibc
import Testing

extension IntegrationTests {
    /// What cannot work says why, in a sentence, and leaves nothing.
    @Suite struct BadInput {
        let lab = Lab.shared

        struct Case: CustomTestStringConvertible, Sendable {
            var flags: [String]
            var image: String?
            var says: String
            var code: Int32 = 125
            var testDescription: String { (flags + [image ?? ""]).joined(separator: " ") }
            init(_ flags: [String], image: String? = nil, says: String) {
                self.flags = flags
                self.image = image
                self.says = says
            }
        }

        static let cases = [
            Case([], image: "oci-archive:/no/such.tar", says: "/no/such.tar"),
            Case([], image: "oci:/no/such/folder", says: "/no/such/folder"),
            Case([], image: "docker-archive:/etc/passwd", says: "/etc/passwd"),
            Case(["--pull", "never"], image: "no-such-image:here", says: "no-such-image"),
            Case(["--pull", "sometimes"], says: "unknown --pull"),
            Case([], image: "Not/A Reference", says: "Not/A Reference"),
            Case(["--kernel", "/nonexistent"], says: "/nonexistent"),
            Case(["--kernel", "/etc/passwd"], says: "/etc/passwd"),
            Case(["--memory", "1m"], says: "too small"),
            Case(["--memory", "lots"], says: "invalid --memory"),
            Case(["--cpus", "0"], says: "out of range"),
            Case(["--network", "host"], says: "publish ports with -p"),
            Case(["--network", "other"], says: "unknown network"),
            Case(["--hypervisor", "other"], says: "unknown hypervisor"),
            Case(["--machine", "pdp11"], says: "unknown --machine"),
            Case(["--accel", "magic"], says: "unknown --accel"),
            Case(["--ulimit", "nofile"], says: "nofile"),
            Case(["--sysctl", "a"], says: "invalid --sysctl"),
            Case(["--cap-add", "FLYING"], says: "FLYING"),
            Case(["--security-opt", "x=y"], says: "unknown --security-opt"),
            Case(["-v", "a:b:c:d"], says: "invalid volume"),
            Case(["-v", "/tmp:relative"], says: "absolute"),
            Case(["--mount", "type=bind,source=/tmp"], says: "no destination"),
            Case(["--tmpfs", "relative"], says: "absolute"),
            Case(["-w", "relative"], says: "not absolute"),
            Case(["-h", "bad host"], says: "invalid hostname"),
            Case(["--stop-signal", "NOISE"], says: "unknown stop signal"),
            Case(["--add-host", "x"], says: "name:address"),
            Case(["-e", "=x"], says: "NAME=VALUE"),
            Case(["--env-file", "/no/such/list"], says: "/no/such/list"),
            Case(["--no-such-flag"], says: "--no-such-flag"),
            Case(["--network", "none", "-p", "80"], says: "--network none"),
            Case(["--sysctl", "no.such.setting=1"], says: "no.such.setting"),
            Case(["--entrypoint", ""], says: "no command specified"),
        ]

        @Test(arguments: cases) func isRefused(_ it: Case) throws {
            let network = it.flags.contains("--network") ? [] : ["--network", "none"]
            let command = it.flags.first == "--entrypoint" ? [] : ["true"]
            let output = try lab.hull(["run", "--rm"] + network + it.flags + [it.image ?? lab.image] + command)
            #expect(output.code == it.code)
            #expect(output.errors.contains(it.says), "\(output.errors)")
            #expect(output.text == "")
        }

        @Test func unknownVerb() throws {
            let output = try lab.hull("frobnicate", "--now")
            #expect(
                output.code == 125 && output.errors == "hull: 'frobnicate' is not a hull command: see hull --help\n",
                "\(output.errors)")
        }

        @Test func guestThatPanics() throws {
            let output = try lab.hull(
                "run", "--rm", "--network", "none", "--kernel-args", "rdinit=/no/such/init root=/dev/none", lab.image, "true",
                seconds: 90)
            #expect(output.code == 125)
            #expect(output.errors.contains("panic"), "\(output.errors)")
            #expect(output.errors.contains("last of the guest's console"), "\(output.errors)")
        }

        @Test func guestThatStaysSilent() throws {
            // Its kernel waits for a root device that never comes.
            let output = try lab.hull(
                ["run", "--rm", "--network", "none", "--kernel-args", "rdinit=/none root=/dev/none rootwait", lab.image, "true"],
                environment: ["HULL_BOOT_TIMEOUT": "4"], seconds: 30)
            #expect(output.code == 125)
            #expect(output.errors.contains("first word of the agent"), "\(output.errors)")
            #expect(output.errors.contains("last of the guest's console"), "\(output.errors)")
        }

        @Test func nothingIsLeftOfWhatFailed() throws {
            #expect(try lab.good("ps", "-a", "--format", "{{.Names}} {{.State}}").lines.allSatisfy { $0 == "box running" })
        }
    }
}
