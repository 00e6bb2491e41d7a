import AgentClient
import AgentProtocol
import Testing

/// The host's half against a guest that may say anything.
@Suite struct HostSessionTests {
    private func begun() throws -> HostSession {
        var session = HostSession()
        _ = session.begin(epoch: 5)
        session.append(FrameHeader(.synchronise, offset: 5).encoded)
        #expect(try session.next() == .synchronised)
        return session
    }

    private func data(_ process: UInt64, _ offset: UInt64, _ bytes: [UInt8], _ stream: StreamKind = .output) -> [UInt8] {
        Frame(FrameHeader(.data, type: stream.rawValue, id: process, offset: offset), bytes).encoded
    }

    @Test func answersMeetTheirRequests() throws {
        var session = try begun()
        let (id, _) = session.request(.ping, Done())
        #expect(session.pendingRequests == 1)
        session.append(Frame(FrameHeader(.reply, type: RequestKind.ping.rawValue, id: id), [1, 2]).encoded)
        #expect(try session.next() == .reply(request: id, payload: [1, 2]))
        session.append(Frame(FrameHeader(.reply, type: RequestKind.ping.rawValue, id: id), []).encoded)
        #expect(throws: WireError.unexpected) { try session.next() }
    }

    @Test func refusesAnswersOfAnotherKind() throws {
        var session = try begun()
        let (id, _) = session.request(.ping, Done())
        session.append(Frame(FrameHeader(.reply, type: RequestKind.stats.rawValue, id: id), []).encoded)
        #expect(throws: WireError.unexpected) { try session.next() }
    }

    @Test func ignoresUnknownProcessesAndRefusesTooMuch() throws {
        var session = try begun()
        session.append(data(99, 0, [1]))
        #expect(try session.next() == nil)
        session.add(1)
        let piece = [UInt8](repeating: 1, count: 1 << 14)
        let pieces = Int(Limits.outputWindow) / piece.count
        for index in 0..<pieces {
            session.append(data(1, UInt64(index * piece.count), piece))
            #expect(try session.next() == .output(process: 1, .output, piece))
        }
        session.append(data(1, Limits.outputWindow, [1]))
        #expect(throws: WireError.creditExceeded) { try session.next() }
    }

    @Test func inputKeepsToCredit() throws {
        var session = try begun()
        session.add(1)
        let input = [UInt8](repeating: 3, count: 1 << 20)[...]
        var sent = 0
        while true {
            let (count, _) = session.input(1, input)
            if count == 0 { break }
            sent += count
        }
        #expect(sent == Int(Limits.window))
        session.append(FrameHeader(.credit, type: 0, id: 1, offset: Limits.window + 100).encoded)
        #expect(try session.next() == .credit(process: 1))
        #expect(session.input(1, input).count == 100)
        session.append(FrameHeader(.credit, type: 0, id: 1, offset: UInt64.max).encoded)
        #expect(throws: WireError.creditExceeded) { try session.next() }
    }

    @Test func aNewEpochDiscardsTheOldAndContinuesStreams() throws {
        var session = try begun()
        session.add(1)
        session.append(data(1, 0, [1, 2, 3]) + data(1, 3, [4]).prefix(20))
        #expect(try session.next() == .output(process: 1, .output, [1, 2, 3]))
        _ = session.begin(epoch: 6)
        session.append(data(1, 3, [9, 9]) + FrameHeader(.synchronise, offset: 6).encoded + data(1, 3, [4, 5]))
        #expect(try session.next() == .synchronised)
        #expect(try session.next() == .output(process: 1, .output, [4, 5]))
        var state = ProcessState()
        state.process = 1
        state.output = 5
        #expect(session.agrees(with: state))
        state.output = 6
        #expect(!session.agrees(with: state))
    }

    @Test func aSaveThatLostBytesIsNoticed() throws {
        var session = try begun()
        session.add(1)
        session.append(data(1, 0, [1, 2, 3]))
        _ = try session.next()
        var stream = ProcessState()
        stream.process = 1
        for output: UInt64 in [3, 4] {
            let (id, _) = session.request(.quiesce, Done())
            var state = AgentState()
            stream.output = output
            state.processes = [stream]
            session.append(Frame(FrameHeader(.reply, type: RequestKind.quiesce.rawValue, id: id), state.encoded()).encoded)
            if output == 3 {
                #expect(try session.next() == .reply(request: id, payload: state.encoded()))
            } else {
                #expect(throws: WireError.wrongOffset) { try session.next() }
            }
        }
    }

    @Test func aProcessEndsOnce() throws {
        var session = try begun()
        session.add(1)
        let exit = Frame(FrameHeader(.event, type: EventKind.exited.rawValue, id: 1), ProcessExit().encoded()).encoded
        session.append(exit + exit)
        #expect(try session.next() == .exited(process: 1, ProcessExit()))
        #expect(throws: WireError.unexpected) { try session.next() }
    }

    @Test func hostileStatesAreKeptInRange() throws {
        var session = try begun()
        var state = ProcessState()
        state.process = 1
        state.output = UInt64.max
        state.input = UInt64.max
        state.ended = UInt32.max
        session.add(1, state: state)
        #expect(session.input(1, [1, 2, 3]).count == 0)
        session.append(data(1, UInt64.max, [1]))
        #expect(throws: WireError.afterEnd) { try session.next() }
    }
}
