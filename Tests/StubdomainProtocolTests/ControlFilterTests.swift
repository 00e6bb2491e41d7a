import StubdomainProtocol
import Testing

@Suite struct ControlFilterTests {
    private func steps(_ text: String) throws(ControlFilter.Malformed) -> [ControlFilter.Step] {
        var filter = ControlFilter()
        return try filter.take(fromToolstack: Array(text.utf8))
    }

    private func pass(_ line: String) -> ControlFilter.Step { .pass(Array((line + "\r\n").utf8)) }

    private func isRefused(_ step: ControlFilter.Step) -> Bool {
        guard case .answer(let line) = step else { return false }
        return String(decoding: line, as: UTF8.self).contains(#""error":{"class":"#)
    }

    @Test("What libxl asks in a domain's life goes through, written anew")
    func passes() throws {
        #expect(
            try steps("{\"execute\":\"qmp_capabilities\",\"id\":1}\r\n{ \"id\" : 2 , \"execute\" : \"stop\" }\n") == [
                pass(#"{"execute":"qmp_capabilities","id":1}"#), pass(#"{"execute":"stop","id":2}"#),
            ])
        let save = #"{"execute":"xen-save-devices-state","arguments":{"filename":"/dev/fdset/1","live":true},"id":3}"#
        #expect(
            try steps(save + "\r\n") == [
                pass(#"{"execute":"xen-save-devices-state","arguments":{"live":true,"filename":"/dev/fdset/1"},"id":3}"#)
            ])
        #expect(
            try steps("{\"execute\":\"xen-set-global-dirty-log\",\"arguments\":{\"enable\":false}}\n") == [
                pass(#"{"execute":"xen-set-global-dirty-log","arguments":{"enable":false}}"#)
            ])
        for command in ["query-status", "query-cpus-fast", "cont"] {
            #expect(
                try steps("{\"execute\":\"\(command)\",\"arguments\":{},\"id\":\"a b\"}\n") == [
                    pass("{\"execute\":\"\(command)\",\"id\":\"a b\"}")
                ])
        }
    }

    @Test("Every other command, and every other argument, is answered with an error, and the connection goes on")
    func refusals() throws {
        let refused = [
            #"{"execute":"human-monitor-command","arguments":{"command-line":"info version"},"id":7}"#,
            #"{"execute":"quit"}"#, #"{"execute":"migrate","arguments":{"uri":"exec:sh"}}"#,
            #"{"execute":"xen-save-devices-state","arguments":{"filename":"/etc/passwd","live":true}}"#,
            #"{"execute":"xen-save-devices-state","arguments":{"filename":"/dev/fdset/10"}}"#,
            #"{"execute":"xen-save-devices-state","arguments":{"live":true}}"#,
            #"{"execute":"xen-save-devices-state","arguments":{"filename":"/dev/fdset/1","more":1}}"#,
            #"{"execute":"xen-set-global-dirty-log","arguments":{"enable":1}}"#, #"{"execute":"xen-set-global-dirty-log"}"#,
            #"{"execute":"stop","arguments":{"x":true}}"#, #"{"execute":"Stop"}"#, #"{"execute":"stop "}"#,
        ]
        for line in refused {
            let got = try steps(line + "\n{\"execute\":\"cont\"}\n")
            #expect(got.count == 2 && isRefused(got[0]) && got[1] == pass(#"{"execute":"cont"}"#), "\(line)")
        }
        guard case .answer(let line) = try steps(refused[0] + "\n")[0] else { throw ControlFilter.Malformed() }
        #expect(String(decoding: line, as: UTF8.self).hasPrefix(#"{"id":7,"error":{"class":"CommandNotFound","#))
    }

    @Test("What is no line of commands ends the connection")
    func malformed() {
        let wrong = [
            "x", "{", "{}", "[]", "stop", #"{"execute":"stop"} x"#, #"{"execute":"stop"}{"execute":"quit"}"#,
            #"{"execute":"stop","execute":"quit"}"#, #"{"execute":"st\u006fp"}"#, #"{"exec-oob":"stop"}"#,
            #"{"execute":"stop","arguments":{"a":{"b":1}}}"#, #"{"execute":"stop","arguments":{"a":1,"a":2}}"#,
            #"{"execute":"stop","arguments":[]}"#, #"{"execute":"stop","id":-1}"#, #"{"execute":"stop","id":1e9}"#,
            #"{"execute":"stop","id":12345678901234567890}"#, #"{"execute":"stop",}"#, #"{"execute":"stop" "id":1}"#,
            "{\"execute\":\"stop\u{1}\"}", "{\"execute\":\"stöp\"}",
            "{\"execute\":\"" + String(repeating: "a", count: 1100) + "\"}",
        ]
        for line in wrong { #expect(throws: ControlFilter.Malformed.self, "\(line)") { try steps(line + "\n") } }
        // Without an end, too, it may not grow for ever.
        #expect(throws: ControlFilter.Malformed.self) { try steps(String(repeating: " ", count: 1025)) }
    }

    @Test("Lines come in any pieces")
    func pieces() throws {
        var filter = ControlFilter()
        var all: [ControlFilter.Step] = []
        for byte in "\r\n{\"execute\":\"stop\"}\r\n{\"execute\":\"quit\"}\n".utf8 {
            all += try filter.take(fromToolstack: [byte])
        }
        #expect(all.count == 2 && all[0] == pass(#"{"execute":"stop"}"#) && isRefused(all[1]))
    }

    @Test("Of QEMU, its greeting and its answers come through, and nothing else")
    func answers() throws {
        func through(_ text: String) throws(ControlFilter.Malformed) -> String {
            var filter = ControlFilter()
            return String(decoding: try filter.take(fromQEMU: Array(text.utf8)), as: UTF8.self)
        }
        let greeting = #"{"QMP": {"version": {"package": "a \"b\" {"}, "capabilities": ["oob"]}}"#
        let event = #"{"timestamp": {"seconds": 1}, "event": "RESUME", "data": {"return": 1}}"#
        #expect(
            try through("\(greeting)\r\n\(event)\r\n{\"return\": {}, \"id\": 1}\r\n")
                == "\(greeting)\r\n{\"return\": {}, \"id\": 1}\r\n")
        #expect(try through(#"{"id": 1, "error": {"class": "x", "desc": "event"}}"# + "\n").contains("desc"))
        #expect(try through(#"{"return": {"event": 1}, "id": "event"}"# + "\n").contains("id"))
        for wrong in [
            "x", "{", "{}", "[]", #"{"a": 1}"#, #"{"return": 1}}"#, #"{"return": 1} {"event": 2}"#, #"{"a": "return"}"#,
            #"{"a": {"return": 1}}"#, "{\"return\": \"\u{7f}\"}", #"{"return": "}"#,
        ] { #expect(throws: ControlFilter.Malformed.self, "\(wrong)") { try through(wrong + "\n") } }
        #expect(throws: ControlFilter.Malformed.self) { try through(String(repeating: "a", count: 65537)) }
    }

    @Test("That QEMU has saved is told of the answer to just that command, and of no error")
    func saved() throws {
        var filter = ControlFilter()
        func hear(_ text: String) throws -> Bool {
            _ = try filter.take(fromQEMU: Array((text + "\n").utf8))
            return filter.takeSaved()
        }
        func say(_ text: String) throws { _ = try filter.take(fromToolstack: Array((text + "\n").utf8)) }
        let save = #"{"execute":"xen-save-devices-state","arguments":{"filename":"/dev/fdset/1","live":true}}"#
        #expect(try !hear(#"{"QMP": {}}"#))
        try say(#"{"execute":"stop"}"#)
        try say(#"{"execute":"quit"}"#)
        try say(save)
        #expect(try !hear(#"{"return": {}}"#))
        #expect(try !hear(#"{"event": "STOP"}"#))
        #expect(try hear(#"{"return": {}}"#))
        #expect(try !hear(#"{"return": {}}"#))
        try say(save)
        #expect(try !hear(#"{"error": {"class": "GenericError", "desc": "no"}}"#))
        try say(#"{"execute":"cont"}"#)
        #expect(try !hear(#"{"return": {}}"#))
    }

    @Test("Whatever comes in, what goes to QEMU is one of the known lines", .timeLimit(.minutes(1)))
    func fuzz() throws {
        var random = SeededRandom(state: 28)
        let words = [
            "{", "}", "\"", ":", ",", "\n", "\r", " ", "\\", "execute", "\"execute\":", "\"stop\"", "\"quit\"", "arguments",
            "\"arguments\":{",
            "\"id\":", "1", "true", "\"filename\":", "\"/dev/fdset/1\"", "\"xen-save-devices-state\"", "[", "]", "\0",
            "{\"execute\":\"stop\"}\n", "\"live\":",
        ]
        let known = ["{\"execute\":\"stop\"", "{\"execute\":\"xen-save-devices-state\",\"arguments\":{"]
        for _ in 0..<20_000 {
            var filter = ControlFilter()
            let text = (0..<Int.random(in: 1...20, using: &random)).map { _ in words.randomElement(using: &random)! }.joined()
            // Malformed is an answer here.
            for step in (try? filter.take(fromToolstack: Array(text.utf8))) ?? [] {
                guard case .pass(let line) = step else { continue }
                let said = String(decoding: line, as: UTF8.self)
                #expect(known.contains { said.hasPrefix($0) } && said.filter { $0 == "\r\n" }.count == 1, "\(text)")
            }
            _ = try? filter.take(fromQEMU: Array(text.utf8))  // must only not trap
        }
    }
}

@Suite struct DeviceModelArgumentsTests {
    @Test("The place of what is restored is filled in, and QEMU gets its control socket and where it saves to")
    func words() {
        let words = DeviceModelArguments.make(
            ["-xen-domid", "7", "-incoming", "$STUBDOM_RESTORE_INCOMING_ARG", "-name", "a $STUBDOM_RESTORE_INCOMING_ARG"],
            restoring: 4, saving: 3, control: "/run/qmp", own: "/run/own")
        #expect(
            words == [
                "-xen-domid", "7", "-incoming", "fd:4", "-name", "a $STUBDOM_RESTORE_INCOMING_ARG", "-add-fd", "fd=3,set=1",
                "-chardev", "socket,id=hull-control,path=/run/qmp,server=on,wait=off", "-mon",
                "chardev=hull-control,mode=control",
                "-chardev", "socket,id=hull-own,path=/run/own,server=on,wait=off", "-mon", "chardev=hull-own,mode=control",
            ])
    }
}
