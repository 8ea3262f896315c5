"""Which role may do what; whose objects are seen is decided by each `visible_to`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:
    # At run time rest_framework.views reads its settings, which name this module.
    from rest_framework.views import APIView


class MayUseApi(BasePermission):
    """Everyone reads; members and operators write."""

    message = "A viewer's token can only read. Use one with the role member or operator."

    def has_permission(self, request: Request, view: APIView) -> bool:
        actor = request.user
        if not getattr(actor, "is_authenticated", False):
            return False
        return request.method in SAFE_METHODS or bool(getattr(actor, "may_write", False))


class OperatorsChange(BasePermission):
    """Reading is for all, changing only for operators."""

    message = "Only an operator's token may change this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        is_operator = bool(getattr(request.user, "is_operator", False))
        return request.method in SAFE_METHODS or is_operator


class OnlyOperators(BasePermission):
    message = "Only an operator's token may do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(getattr(request.user, "is_operator", False))
