import Testing

@testable import Netlink

@Suite struct ValueTests {
    @Test(arguments: [
        ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"), ("10.213.0.2", "10.213.0.2"),
        ("::", "::"), ("::1", "::1"), ("fd00::1", "fd00::1"), ("FE80::A", "fe80::a"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("1::8", "1::8"), ("1:0:0:4:0:0:0:8", "1:0:0:4::8"),
        ("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"), ("2001:db8::0:0", "2001:db8::"),
        ("::ffff:1.2.3.4", "::ffff:102:304"), ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
        ("::1.2.3.4", "::102:304"), ("1::", "1::"),
    ])
    func readsAddresses(text: String, canonical: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
        #expect(IPAddress(bytes: address.bytes) == address)
        #expect(IPAddress(canonical) == address)
    }

    @Test(arguments: [
        "", ".", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.+4", "1.2.3.-4", " 1.2.3.4", "1.2.3.4 ",
        ":", ":::", "1:2:3", "1:2:3:4:5:6:7:8:9", "1::2::3", "g::", "12345::", "fe80::1%eth0", "::1.2.3",
        "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:6:7::8:9", "1.2.3.4::", "::+1", "localhost", "1:", ":1",
        "1:2:3:4:5:6:7:", "::1.2.3.4.5",
    ])
    func refusesAddresses(text: String) { #expect(IPAddress(text) == nil) }

    @Test func networks() {
        let network = IPNetwork("10.88.3.4/16")!
        #expect(network.base == IPAddress("10.88.0.0"))
        #expect(network.contains(IPAddress("10.88.255.255")!))
        #expect(!network.contains(IPAddress("10.89.0.0")!))
        #expect(!network.contains(IPAddress("::")!))
        #expect(network.overlaps(IPNetwork("10.0.0.0/8")!))
        #expect(network.overlaps(IPNetwork("10.88.9.0/24")!))
        #expect(!network.overlaps(IPNetwork("10.87.0.0/16")!))
        #expect(IPNetwork("0.0.0.0/0")!.overlaps(network))
        #expect(IPNetwork("fd00:1:2:3::9/64")!.base == IPAddress("fd00:1:2:3::"))
        #expect(IPNetwork("fd00:1:2:3:4::/72")!.base == IPAddress("fd00:1:2:3::"))
        #expect(IPNetwork("::/0")!.contains(IPAddress("fe80::1")!))
        #expect(IPNetwork("1.2.3.4/32")!.base == IPAddress("1.2.3.4"))
        for bad in ["1.2.3.4", "1.2.3.4/33", "::/129", "1.2.3.4/-1", "1.2.3.4/+1", "1.2.3.4/", "/8"] {
            #expect(IPNetwork(bad) == nil)
        }
    }

    @Test func macAddresses() {
        let mac = MACAddress(for: IPAddress("10.213.0.2")!)
        #expect(mac.description == "02:68:0a:d5:00:02")
        #expect(MACAddress(mac.description) == mac)
        #expect(mac.linkLocalAddress.description == "fe80::68:aff:fed5:2")
        for _ in 0..<100 {
            let random = MACAddress.random()
            #expect(random.isUnicast && random.bytes[0] & 2 == 2)
        }
        for bad in ["", "02:68:0a:d5:00", "02:68:0a:d5:00:02:03", "2:68:0a:d5:00:02", "0g:68:0a:d5:00:02"] {
            #expect(MACAddress(bad) == nil)
        }
    }
}
