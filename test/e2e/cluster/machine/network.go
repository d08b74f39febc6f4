// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// cardName is the name of a machine's network card.
const cardName = "eth0"

// bridgeTimeout bounds the wait for the machine that owns the bridge.
const bridgeTimeout = 20 * time.Second

// connect sets up the machine's network from within. A machine with a port reaches the bridge by the network namespace
// open at file descriptor bridgeNS.
func connect(n Network, bridgeNS int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("starting the loopback: %w", err)
	}
	card := n.Bridge
	if n.Port == "" {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.Bridge}}); err != nil {
			return fmt.Errorf("creating bridge %q: %w", n.Bridge, err)
		}
	} else {
		card = cardName
		if err := plug(n, netns.NsHandle(bridgeNS)); err != nil {
			return err
		}
	}
	if err := address(card, n); err != nil {
		return err
	}
	const forwarding = "/proc/sys/net/ipv4/ip_forward"
	if err := os.WriteFile(forwarding, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("setting %q: %w", forwarding, err)
	}
	return nil
}

// plug makes the pair of the machine's card and its port on the bridge.
func plug(n Network, bridgeNS netns.NsHandle) error {
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("opening own network namespace: %w", err)
	}
	defer own.Close()
	h, err := netlink.NewHandleAt(bridgeNS)
	if err != nil {
		return fmt.Errorf("entering the bridge's network namespace: %w", err)
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(context.Background(), bridgeTimeout)
	defer cancel()
	var bridge netlink.Link
	if err := poll(ctx, 10*time.Millisecond, fmt.Sprintf("bridge %q", n.Bridge), func() bool {
		bridge, err = h.LinkByName(n.Bridge)
		return err == nil
	}); err != nil {
		return err
	}
	if stale, err := h.LinkByName(n.Port); err == nil {
		if err := h.LinkDel(stale); err != nil {
			return fmt.Errorf("removing stale port %q: %w", n.Port, err)
		}
	}
	port := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: n.Port, MasterIndex: bridge.Attrs().Index},
		PeerName:      cardName,
		PeerNamespace: netlink.NsFd(own),
		// The same address after a restart: nobody has to learn it anew.
		PeerHardwareAddr: hardwareAddress(n.Address),
	}
	if err := h.LinkAdd(port); err != nil {
		return fmt.Errorf("creating port %q: %w", n.Port, err)
	}
	if err := h.LinkSetUp(port); err != nil {
		return fmt.Errorf("starting port %q: %w", n.Port, err)
	}
	return nil
}

func hardwareAddress(seed string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(seed))
	// 02: locally administered, unicast.
	return append(net.HardwareAddr{0x02}, sum[:5]...)
}

func address(card string, n Network) error {
	link, err := netlink.LinkByName(card)
	if err != nil {
		return fmt.Errorf("finding card %q: %w", card, err)
	}
	addr, err := netlink.ParseAddr(n.Address)
	if err != nil {
		return fmt.Errorf("parsing address %q: %w", n.Address, err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("adding address %q: %w", n.Address, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("starting card %q: %w", card, err)
	}
	routes := n.Routes
	if n.Gateway != "" {
		routes = append([]Route{{To: "0.0.0.0/0", Via: n.Gateway}}, routes...)
	}
	for _, r := range routes {
		dst, err := netlink.ParseIPNet(r.To)
		if err != nil {
			return fmt.Errorf("parsing route to %q: %w", r.To, err)
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.ParseIP(r.Via)}); err != nil {
			return fmt.Errorf("adding the route to %q via %q: %w", r.To, r.Via, err)
		}
	}
	return nil
}

// SetPort switches a machine's port on the bridge on or off, in the network namespace of the bridge's owner.
func (m *Machine) SetPort(port string, up bool) error {
	ns, err := netns.GetFromPath(m.NetNS())
	if err != nil {
		return fmt.Errorf("opening the network namespace of machine %q: %w", m.Spec.Name, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("entering the network namespace of machine %q: %w", m.Spec.Name, err)
	}
	defer h.Close()
	link, err := h.LinkByName(port)
	if err != nil {
		return fmt.Errorf("finding port %q: %w", port, err)
	}
	set := h.LinkSetDown
	if up {
		set = h.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("switching port %q: %w", port, err)
	}
	return nil
}

// Dialer connects from within a network namespace.
type Dialer struct {
	ns *os.File
}

// NewDialer opens the network namespace at path. Close releases it.
func NewDialer(path string) (*Dialer, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening a network namespace: %w", err)
	}
	return &Dialer{ns: ns}, nil
}

// Close releases the namespace. Connections stay.
func (d *Dialer) Close() error { return d.ns.Close() }

// Dial connects to a TCP address, whose host must be an IP address. The socket stays in the namespace.
func (d *Dialer) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var conn net.Conn
	err := InNetNS(d.ns, func() error {
		var err error
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to %q: %w", addr, err)
	}
	return conn, nil
}

// InNetNS calls f on a thread that has entered the network namespace.
func InNetNS(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked where the way back fails: the thread ends with the goroutine rather than serve others from
		// within the wrong namespace.
		leave, err := enterNetNS(ns)
		if err != nil {
			done <- err
			return
		}
		err = f()
		done <- errors.Join(err, leave())
	}()
	return <-done
}

func networkNamespace(fd int) error {
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering a network namespace: %w", err)
	}
	return nil
}
