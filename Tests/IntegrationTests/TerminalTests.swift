import Glibc
import Testing

extension IntegrationTests {
    /// `-t`: a terminal inside, and the user's own outside.
    @Suite struct Terminals {
        let lab = Lab.shared

        @Test func sizeAndNameAndBytes() throws {
            let terminal = try Pseudoterminal(rows: 33, columns: 101)
            let before = terminal.modes
            let shell = try lab.start("run", "--rm", "-it", "--network", "none", lab.image, "sh", terminal: terminal)
            shell.type("echo size=$(stty size) $(tty) term=$TERM\r")
            try shell.expect("size=33 101 /dev/pts/0 term=xterm")
            #expect(terminal.modes != before)
            // Not the shell itself: its line editor takes the signal for its own.
            shell.type("sh -c 'trap \"stty size; exit\" WINCH; echo ready\"\"set; while :; do sleep 0.1; done'\r")
            try shell.expect("readyset")
            terminal.resize(rows: 44, columns: 88)
            try shell.expect("44 88\r\n")
            // Control characters belong to the container: ctrl-C ends the foreground's processes and with them the list, and the
            // shell goes on. The foreground itself says that it is there: before, the shell alone would get the signal.
            shell.type("sh -c 'echo sleep\"\"ing; exec sleep 1000'; echo slept$?\r")
            try shell.expect("sleeping\r\n")
            shell.type([3])
            shell.type("echo after=$?\r")
            try shell.expect("after=130")
            #expect(!shell.text.contains("slept130"))
            shell.type("stty raw -echo; echo go''ing; head -c 6 | od -An -tx1; exit 21\r")
            try shell.expect("going")
            shell.type([0x03, 0x11, 0x04, 0x0D, 0x00, 0xFF])
            try shell.expect("03 11 04 0d 00 ff")
            #expect(try shell.finish().code == 21)
            #expect(terminal.modes == before)
        }

        @Test func detachingAndComingBack() throws {
            let terminal = try Pseudoterminal(rows: 24, columns: 80)
            let before = terminal.modes
            let shell = try lab.start("run", "-it", "--name", "left", "--network", "none", lab.image, "sh", terminal: terminal)
            defer { _ = try? lab.hull("rm", "-f", "left") }  // the suite's end looks for what is left
            shell.type("X=kept; echo go''ing\r")
            try shell.expect("going")
            shell.type([16, 17])
            #expect(try shell.finish(seconds: 10).code == 0)
            #expect(terminal.modes == before)
            #expect(try lab.good("ps", "-q", "-f", "name=left").lines.count == 1)
            let again = try lab.start("attach", "--detach-keys", "ctrl-a,d", "left", terminal: terminal)
            again.type("echo X=$X\r")
            try again.expect("X=kept")
            again.type([1, UInt8(ascii: "d")])
            #expect(try again.finish(seconds: 10).code == 0)
            // A terminal is restored when the machine dies, too.
            let third = try lab.start("attach", "left", terminal: terminal)
            third.type("echo X=$X\r")
            try third.expect("X=kept")
            let pid = try #require(lab.state("left")["Pid"] as? Int32)
            kill(pid, SIGKILL)
            #expect(try third.finish(seconds: 10).code != 0)
            #expect(terminal.modes == before)
        }

        @Test func execWithATerminal() throws {
            let terminal = try Pseudoterminal(rows: 20, columns: 70)
            let shell = try lab.start(
                "exec", "-it", try lab.box(), "sh", "-c", "stty size; tty; read x; echo got=$x", terminal: terminal)
            try shell.expect("20 70")
            shell.type("line\r")
            try shell.expect("got=line")
            #expect(try shell.finish().code == 0)
        }

        @Test func noTerminalOutside() throws {
            let output = try lab.hull("run", "--rm", "-it", "--network", "none", lab.image, "true")
            #expect(output.code == 125 && output.errors.contains("not a terminal"), "\(output.errors)")
            let only = try lab.hull("run", "--rm", "-t", "--network", "none", lab.image, "tty")
            #expect(only.code == 0 && only.text == "/dev/pts/0\r\n", "\(only.errors)")
        }
    }
}
