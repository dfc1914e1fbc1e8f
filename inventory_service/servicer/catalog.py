"""Answers shop.inventory.v1.CatalogService."""
# ruff: noqa: N802, ARG002 - the contract names the methods and their parameters

from inventory_service.domain.catalog import Change, Draft, Facts, Money, Product
from inventory_service.service.catalog import CatalogService
from inventory_service.servicer import Context
from mesh.timestamp import timestamp
from shop.inventory.v1 import catalog_pb2 as pb
from shop.inventory.v1 import catalog_pb2_grpc
from shop.type.v1 import money_pb2

# Of a product without a mask, these are never meant: the first names it, the others are not the writer's to say.
_NOT_FACTS = {"sku", "etag", "available", "create_time", "update_time"}


class CatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """Proto to domain and back."""

    def __init__(self, service: CatalogService) -> None:
        self._service = service

    async def ListProducts(self, request: pb.ListProductsRequest, context: Context) -> pb.ListProductsResponse:
        """See the contract."""
        page = await self._service.list_products(
            page_size_asked=request.page_size,
            page_token=request.page_token,
            category=request.category,
            in_stock=request.in_stock,
            q=request.q,
            order_by=request.order_by,
        )
        products = [_product(product) for product in page.items]
        return pb.ListProductsResponse(products=products, next_page_token=page.next_page_token)

    async def GetProduct(self, request: pb.GetProductRequest, context: Context) -> pb.Product:
        """See the contract."""
        return _product(await self._service.get_product(request.sku))

    async def BatchGetProducts(
        self, request: pb.BatchGetProductsRequest, context: Context
    ) -> pb.BatchGetProductsResponse:
        """See the contract."""
        products, missing = await self._service.batch_get_products(request.skus)
        return pb.BatchGetProductsResponse(products=[_product(product) for product in products], missing_skus=missing)

    async def CreateProduct(self, request: pb.CreateProductRequest, context: Context) -> pb.Product:
        """See the contract."""
        draft = Draft(sku=request.product.sku, facts=_facts(request.product))
        return _product(await self._service.create_product(draft))

    async def UpdateProduct(self, request: pb.UpdateProductRequest, context: Context) -> pb.Product:
        """See the contract."""
        change = Change(
            sku=request.product.sku, etag=request.product.etag, facts=_facts(request.product), fields=_meant(request)
        )
        return _product(await self._service.update_product(change))

    async def DeleteProduct(self, request: pb.DeleteProductRequest, context: Context) -> pb.DeleteProductResponse:
        """See the contract."""
        await self._service.delete_product(request.sku, etag=request.etag)
        return pb.DeleteProductResponse()


def _meant(request: pb.UpdateProductRequest) -> tuple[str, ...]:
    """The fields to take: those of the mask, else those that are set (AIP-134)."""
    if request.update_mask.paths:
        return tuple(request.update_mask.paths)
    return tuple(field.name for field, _ in request.product.ListFields() if field.name not in _NOT_FACTS)


def _facts(product: pb.Product) -> Facts:
    return Facts(
        name=product.name,
        description=product.description,
        category=product.category,
        price=Money(product.price.currency_code, product.price.minor_units),
        weight_grams=product.weight_grams,
    )


def _product(product: Product) -> pb.Product:
    facts = product.facts
    return pb.Product(
        sku=product.sku,
        name=facts.name,
        description=facts.description,
        category=facts.category,
        price=money_pb2.Money(currency_code=facts.price.currency_code, minor_units=facts.price.minor_units),
        weight_grams=facts.weight_grams,
        available=product.available,
        etag=product.etag,
        create_time=timestamp(product.create_time),
        update_time=timestamp(product.update_time),
    )
