"""The demo's agents, a module each: what they are asked, and how it goes."""

from runs.demo.agents import coding, helm, helpdesk, kubernetes, research, revenue

AGENTS = (
    helm.AGENT,
    kubernetes.AGENT,
    coding.AGENT,
    helpdesk.AGENT,
    research.AGENT,
    revenue.AGENT,
)
