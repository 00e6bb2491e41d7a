import Netlink
import Testing

@testable import HostNetwork

@Suite struct PortRequestTests {
    @Test(arguments: [
        ("80", [PortRequest(containerPort: 80)]),
        ("8080:80", [PortRequest(hostPorts: 8080...8080, containerPort: 80)]),
        (":80", [PortRequest(containerPort: 80)]),
        ("0:80", [PortRequest(containerPort: 80)]),
        ("::80", [PortRequest(containerPort: 80)]),
        ("8080:80/udp", [PortRequest(hostPorts: 8080...8080, containerPort: 80, transport: .udp)]),
        ("8080:80/TCP", [PortRequest(hostPorts: 8080...8080, containerPort: 80)]),
        ("127.0.0.1:8080:80", [PortRequest(hostAddress: .v4(0x7f00_0001), hostPorts: 8080...8080, containerPort: 80)]),
        ("127.0.0.1::80", [PortRequest(hostAddress: .v4(0x7f00_0001), containerPort: 80)]),
        ("[fd00::1]:8080:80", [PortRequest(hostAddress: IPAddress("fd00::1"), hostPorts: 8080...8080, containerPort: 80)]),
        ("[::]::80", [PortRequest(hostAddress: .v6(0, 0), containerPort: 80)]),
        (
            "8000-8001:80-81",
            [
                PortRequest(hostPorts: 8000...8000, containerPort: 80),
                PortRequest(hostPorts: 8001...8001, containerPort: 81),
            ]
        ),
        ("8000-8010:80", [PortRequest(hostPorts: 8000...8010, containerPort: 80)]),
        ("80-81", [PortRequest(containerPort: 80), PortRequest(containerPort: 81)]),
        ("65535:65535", [PortRequest(hostPorts: 65535...65535, containerPort: 65535)]),
    ])
    func reads(text: String, requests: [PortRequest]) throws {
        #expect(try PortRequest.parse(text) == requests)
    }

    @Test(arguments: [
        "", ":", "::", "a", "80:", "8080:80:", "1.2.3:80:80", "localhost:80:80", "80:0", "0", "65536", "80:65536",
        "-80", "80-", "81-80", "80-81:80-82", "80/sctp", "80/", "[::1]:80:80", "[::2]80:80", "[::2]:80", "[1.2.3.4]:1:1",
        "::1:80:80", "fd00::1:80:80", "1.2.3.4:5:6:7", "+80", "80:+80", " 80", "8 0",
    ])
    func refuses(text: String) {
        do {
            _ = try PortRequest.parse(text)
            Issue.record("\(text) was taken")
        } catch let error as HostNetworkError {
            #expect(error.code == .badPort)
            #expect(error.sentence.hasPrefix("publish \"\(text)\": "))
        } catch {
            Issue.record(error)
        }
    }
}
