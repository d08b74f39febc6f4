// SPDX-License-Identifier: Apache-2.0

package object

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// OutsideService is a Service without a selector that leads to an address outside of the cluster's pods, with the slice that says
// so. Its host and port within the cluster are the third result.
func (m Maker) OutsideService(name, ip string, port int32) (*corev1.Service, *discoveryv1.EndpointSlice, string) {
	service := &corev1.Service{
		ObjectMeta: m.meta(name),
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: name, Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  m.meta(name),
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{ip}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(name), Port: ptr.To(port), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	return service, slice, name + "." + m.Namespace + ".svc.cluster.local:80"
}

// NamespaceObject is the namespace itself, with labels.
func (m Maker) NamespaceObject(labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: m.Namespace, Labels: labels}}
}
