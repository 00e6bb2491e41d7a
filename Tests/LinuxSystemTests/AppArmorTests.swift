import Testing

@testable import LinuxSystem

@Suite struct AppArmorTests {
    @Test("The kernel's list has a name and a mode in each line") func names() {
        let list = "docker-default (enforce)\n/usr/bin/man (complain)\nwith (two) words (kill)\n\nodd\n"
        #expect(AppArmor.names(list) == ["docker-default", "/usr/bin/man", "with (two) words", "odd"])
    }
}
