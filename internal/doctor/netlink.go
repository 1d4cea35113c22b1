package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// makeDevices makes one of each network device that VPCs are built of, and says what was wrong with each, or "". It runs in a network
// namespace of its own, which takes them along when the process ends.
func makeDevices() map[string]string {
	vxlan := append(attribute(unix.IFLA_VXLAN_ID, binary.NativeEndian.AppendUint32(nil, 1)), attribute(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, 4789))...)
	came := map[string]string{}
	for name, err := range map[string]error{
		deviceTap:      makeTap(),
		deviceVeth:     makeLink("veth", nil),
		deviceBridge:   makeLink("bridge", nil),
		deviceVXLAN:    makeLink("vxlan", vxlan),
		deviceNftables: makeTable(),
	} {
		came[name] = ""
		if err != nil {
			came[name] = err.Error()
		}
	}
	return came
}

func makeTap() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("doctor-tap")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("make a tap device: %w", err)
	}
	return nil
}

// makeLink makes a device by rtnetlink(7).
func makeLink(kind string, data []byte) error {
	info := attribute(unix.IFLA_INFO_KIND, []byte(kind+"\x00"))
	if len(data) > 0 {
		info = append(info, attribute(unix.IFLA_INFO_DATA, data)...)
	}
	body := make([]byte, unix.SizeofIfInfomsg) // no family, type, index or flags
	body = append(body, attribute(unix.IFLA_IFNAME, []byte("doctor-"+kind+"\x00"))...)
	body = append(body, attribute(unix.IFLA_LINKINFO, info)...)
	err := exchange(unix.NETLINK_ROUTE, message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, body))
	if err != nil {
		return fmt.Errorf("make a %s device: %w", kind, err)
	}
	return nil
}

// makeTable makes an nftables table of the family inet, in a batch as nf_tables wants it.
func makeTable() error {
	header := func(family byte, resource uint16) []byte {
		return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
	}
	table := append(header(unix.NFPROTO_INET, 0), attribute(unix.NFTA_TABLE_NAME, []byte("doctor\x00"))...)
	batch := message(unix.NFNL_MSG_BATCH_BEGIN, 0, header(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	batch = append(batch, message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_ACK, table)...)
	batch = append(batch, message(unix.NFNL_MSG_BATCH_END, 0, header(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))...)
	if err := exchange(unix.NETLINK_NETFILTER, batch); err != nil {
		return fmt.Errorf("make an nftables table: %w", err)
	}
	return nil
}

// attribute encodes a netlink attribute, padded to four bytes.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

// message encodes a netlink request.
func message(kind uint16, flags uint16, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, 1) // sequence number
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel fills in who we are
	return pad(append(b, body...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// exchange sends requests of which one asks for an acknowledgement, and gives the error in the answer.
func exchange(protocol int, requests []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return err
	}
	if err := unix.Sendto(fd, requests, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 8192)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return err
	}
	return acknowledged(buf[:n])
}

// acknowledged reads the first message of an answer: NLMSG_ERROR with a negative error number, or zero for done.
func acknowledged(answer []byte) error {
	if len(answer) < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is not an acknowledgement")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
